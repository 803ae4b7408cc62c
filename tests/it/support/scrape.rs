//! What `/metrics` says, read as strictly as the format allows.

use std::collections::{BTreeMap, BTreeSet};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::TestServer;

/// Labels and their values.
pub(crate) type Labels = BTreeMap<String, String>;

/// One answer.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    pub(crate) head: String,
    /// From the name of a family to its kind.
    pub(crate) kinds: BTreeMap<String, String>,
    /// The samples of each name, suffixes included.
    pub(crate) samples: BTreeMap<String, Vec<(Labels, String)>>,
}

impl Scrape {
    /// Asks a server.
    pub(crate) async fn of(server: &TestServer) -> Self {
        let mut socket = TcpStream::connect(server.server.http_address()).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).await.unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let mut scrape = Self::parse(body);
        scrape.head = head.to_ascii_lowercase();
        scrape
    }

    /// Reads a text; panics where it breaks the format.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        let mut seen = BTreeSet::new();
        let (mut family, mut helped) = ("", "");
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                (helped, _) = help.split_once(' ').unwrap();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped, "a type without its help");
                let is_new = scrape.kinds.insert(name.to_owned(), kind.to_owned()).is_none();
                assert!(is_new, "{name} comes twice");
                family = name;
            } else {
                let (name, labels, value) = parse_sample(line);
                assert!(seen.insert((name, labels.clone())), "{line} comes twice");
                let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line}"));
                let is_histogram = scrape.kinds[family] == "histogram";
                let suffixes: &[_] =
                    if is_histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line} in {family}");
                scrape.samples.entry(name.to_owned()).or_default().push((labels, value));
            }
        }
        scrape
    }

    /// The sum of the samples of a name that have these labels, all of them whole numbers.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let samples = self.samples.get(name).into_iter().flatten();
        let matching = samples.filter(|(of_sample, _)| {
            let has =
                |(name, value): &(&str, &str)| of_sample.get(*name).is_some_and(|it| it == value);
            labels.iter().all(has)
        });
        matching.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }
}

fn parse_sample(line: &str) -> (&str, Labels, String) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
    let value = value.to_owned();
    let Some((name, rest)) = series.split_once('{') else {
        return (series, Labels::new(), value);
    };
    let mut rest = rest.strip_suffix('}').unwrap();
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once("=\"").unwrap();
        let end = closing_quote(behind);
        let is_new = labels.insert(name.to_owned(), behind[..end].to_owned()).is_none();
        assert!(is_new, "{line}: {name} comes twice");
        rest = &behind[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name, labels, value)
}

/// Where the first quote is that no backslash is before.
fn closing_quote(text: &str) -> usize {
    let mut is_escaped = false;
    text.find(|character| {
        let is_end = character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    })
    .unwrap()
}
