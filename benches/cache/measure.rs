//! Samples, and the table they end up in.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;

use super::process::ServerProcess;

/// How long a server may take to finish what its last answer leaves behind.
const SETTLE: Duration = Duration::from_millis(3);

/// How much one sample does, and so the unit of its row.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    /// So many calls or other steps: microseconds each.
    Steps(u64),
    /// So many bytes: seconds per gigabyte.
    Bytes(u64),
}

impl Amount {
    fn cost(self, time: Duration) -> f64 {
        match self {
            Self::Steps(steps) => time.as_secs_f64() * 1e6 / steps as f64,
            Self::Bytes(bytes) => time.as_secs_f64() * 1e9 / bytes as f64,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Steps(_) => "us",
            Self::Bytes(_) => "s/GB",
        }
    }
}

struct Row {
    name: String,
    amount: Amount,
    wall: Vec<f64>,
    cpu: Vec<f64>,
    /// CPU of the server that does nothing.
    floor: Vec<f64>,
}

/// Every row, in the order of the first round.
pub(crate) struct Report {
    word: String,
    rows: Vec<Row>,
}

impl Report {
    /// An empty one, which prints only rows that contain `word`.
    pub(crate) fn new(word: &str) -> Self {
        Self { word: word.to_owned(), rows: Vec::new() }
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.word)
    }

    /// The row of a case; the first round adds none, so that it only warms up.
    fn row(&mut self, round: usize, name: &str, amount: Amount) -> Option<&mut Row> {
        if round == 0 || !self.wants(name) {
            return None;
        }
        let found = self.rows.iter().position(|row| row.name == name);
        let at = found.unwrap_or_else(|| {
            let (wall, cpu, floor) = Default::default();
            self.rows.push(Row { name: name.to_owned(), amount, wall, cpu, floor });
            self.rows.len() - 1
        });
        self.rows.get_mut(at)
    }

    /// Adds a sample that has no server.
    pub(crate) fn add_local(
        &mut self,
        round: usize,
        name: &str,
        amount: Amount,
        (wall, cpu): (Duration, Duration),
    ) {
        if let Some(row) = self.row(round, name, amount) {
            row.wall.push(amount.cost(wall));
            row.cpu.push(amount.cost(cpu));
        }
    }

    /// Prints the table as Markdown.
    pub(crate) fn print(&mut self) {
        println!("| what | unit | wall | CPU | least - most | empty server |");
        println!("|---|---|---|---|---|---|");
        for row in &mut self.rows {
            let (wall, cpu) = (median(&mut row.wall), median(&mut row.cpu));
            let (least, most) = (row.cpu[0], row.cpu[row.cpu.len() - 1]);
            let floor =
                if row.floor.is_empty() { String::new() } else { number(median(&mut row.floor)) };
            println!(
                "| {} | {} | {} | {} | {} - {} | {floor} |",
                row.name,
                row.amount.unit(),
                number(wall),
                number(cpu),
                number(least),
                number(most),
            );
        }
    }
}

/// Sorts, and takes the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value {
        _ if value < 1.0 => format!("{value:.3}"),
        _ if value < 10.0 => format!("{value:.2}"),
        _ if value < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// One round of cases against a server and beside it the empty one.
pub(crate) struct Bench<'a> {
    report: &'a mut Report,
    server: &'a mut ServerProcess,
    empty: &'a mut ServerProcess,
    round: usize,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        report: &'a mut Report,
        server: &'a mut ServerProcess,
        empty: &'a mut ServerProcess,
        round: usize,
    ) -> Self {
        Self { report, server, empty, round }
    }

    /// Runs a case, unless nobody wants to see it.
    pub(crate) async fn case<F: Future<Output = ()>>(
        &mut self,
        name: &str,
        amount: Amount,
        work: impl Fn(Channel) -> F,
    ) {
        if self.report.wants(name) {
            self.necessary_case(name, amount, work).await;
        }
    }

    /// Whether somebody wants to see this row.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.report.wants(name)
    }

    /// Runs a case that later ones build upon.
    pub(crate) async fn necessary_case<F: Future<Output = ()>>(
        &mut self,
        name: &str,
        amount: Amount,
        work: impl Fn(Channel) -> F,
    ) {
        let (wall, cpu) = sample(self.server, &work).await;
        let (_, floor) = sample(self.empty, &work).await;
        if let Some(row) = self.report.row(self.round, name, amount) {
            row.wall.push(amount.cost(wall));
            row.cpu.push(amount.cost(cpu));
            row.floor.push(amount.cost(floor));
        }
    }
}

async fn sample<F: Future<Output = ()>>(
    server: &mut ServerProcess,
    work: impl Fn(Channel) -> F,
) -> (Duration, Duration) {
    let before = server.cpu_time();
    let start = Instant::now();
    work(server.channel.clone()).await;
    let wall = start.elapsed();
    tokio::time::sleep(SETTLE).await;
    (wall, server.cpu_time().saturating_sub(before))
}
