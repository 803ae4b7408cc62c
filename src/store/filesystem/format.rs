//! The file `FORMAT`: the few facts that names of files cannot say.
//!
//! Pure. Text that a person can read, a line each; lines of a later build are skipped, and the
//! first two are what the first build wrote. A value that is damaged counts as missing, and every
//! missing value errs towards less: a start reads more directories, a fence that held once still
//! holds. So a checksum at the end guards the lines that save work (`durable`, `clean`), and the
//! others are believed without it. Of the epoch it is believed that it is not lower.
//!
//! ```text
//! castellan 1
//! epoch 7
//! cap 107374182400
//! boot 5f0c3a52-3c55-4f6e-9c2d-9b0d6a0c2f11
//! mount 42
//! purged_all 7696581394432
//! purged 3b8f...c1 7696581394440
//! former 7696581394435
//! durable 7696581395456
//! clean 9d3e...07
//! sum 0123456789abcdef
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::layout::Generation;
use crate::digest::shorten;
use crate::store::Namespace;

const FIRST_LINE: &str = "castellan 1";
const MAX_BOOT_CHARS: usize = 128;
/// Separates this checksum from every other use of BLAKE3.
const CONTEXT: &str = "castellan 2026 file FORMAT";

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Format {
    /// The last start; 0 when it is not known.
    pub(crate) epoch: u32,
    /// The cap it was last run with, in bytes.
    pub(crate) cap_bytes: Option<u64>,
    /// What the kernel called its boot then: printable ASCII without spaces.
    pub(crate) boot: Option<String>,
    /// What the kernel called the mount then.
    pub(crate) mount: Option<u64>,
    /// Whatever is older was on the disk at the last sync.
    pub(crate) durable: Option<Generation>,
    /// Whatever is older is purged.
    pub(crate) purged_all: Option<Generation>,
    /// Whatever is older in its namespace is purged.
    pub(crate) purged: Vec<(Namespace, Generation)>,
    /// While the files of a former server are taken over: since when. What was purged later is
    /// purged of them too.
    pub(crate) former: Option<Generation>,
    /// After a clean stop: the identity of the snapshot that is the index, 64 hexadecimal digits.
    pub(crate) clean: Option<String>,
}

/// Why the file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// It belongs to another build, or to something else.
    #[error("FORMAT says {found:?}, this build reads {FIRST_LINE:?}")]
    Version {
        /// Its first line, cut to a printable length.
        found: String,
    },
}

impl Format {
    /// Reads the file. Fences and the epoch only rise: of several the highest counts.
    pub(crate) fn parse(text: &str) -> Result<Self, FormatError> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        if first != FIRST_LINE {
            return Err(FormatError::Version { found: shorten(first) });
        }
        let mut format = Self::default();
        let mut fences = BTreeMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(' ')) {
            match name {
                "epoch" => format.epoch = format.epoch.max(epoch(value).unwrap_or(0)),
                "cap" => format.cap_bytes = decimal(value),
                "boot" => format.boot = is_boot(value).then(|| value.to_owned()),
                "mount" => format.mount = decimal(value),
                // The lowest promises least.
                "durable" => {
                    if let Some(durable) = generation(value) {
                        let other = format.durable.unwrap_or(durable);
                        format.durable = Some(durable.min(other));
                    }
                }
                "purged_all" => format.purged_all = format.purged_all.max(generation(value)),
                "purged" => {
                    if let Some((namespace, fence)) = fence(value) {
                        let highest = fences.entry(namespace).or_insert(fence);
                        *highest = fence.max(*highest);
                    }
                }
                "former" => format.former = generation(value).or(format.former),
                "clean" => format.clean = is_identity(value).then(|| value.to_owned()),
                _ => {}
            }
        }
        format.purged = fences.into_iter().collect();
        if !is_whole(text) {
            format.durable = None;
            format.clean = None;
        }
        Ok(format)
    }
}

/// The text of the file. A value that could not be read again is left out.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{FIRST_LINE}\nepoch {}\n", self.epoch);
        let mut line = |name: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => writeln!(text, "{name} {value}"),
            None => Ok(()),
        };
        let durable = self.durable.map(|it| it.0);
        let purged_all = self.purged_all.map(|it| it.0);
        let former = self.former.map(|it| it.0);
        let boot = self.boot.as_ref().filter(|boot| is_boot(boot));
        let clean = self.clean.as_ref().filter(|clean| is_identity(clean));
        line("cap", self.cap_bytes.as_ref().map(|it| it as _))?;
        line("boot", boot.map(|it| it as _))?;
        line("mount", self.mount.as_ref().map(|it| it as _))?;
        line("purged_all", purged_all.as_ref().map(|it| it as _))?;
        for (namespace, fence) in &self.purged {
            let fence = format!("{} {}", const_hex::encode(namespace.0), fence.0);
            line("purged", Some(&fence))?;
        }
        line("former", former.as_ref().map(|it| it as _))?;
        line("durable", durable.as_ref().map(|it| it as _))?;
        line("clean", clean.map(|it| it as _))?;
        writeln!(f, "{text}sum {}", checksum(&text))
    }
}

/// Whether the text ends with the checksum of what stands before.
pub(crate) fn is_whole(text: &str) -> bool {
    let Some(body) = text.strip_suffix('\n') else {
        return false;
    };
    let (before, last) = body.rsplit_once('\n').unwrap_or(("", body));
    let sum = last.strip_prefix("sum ");
    let summed = text.get(..before.len() + 1);
    sum.is_some() && summed.map(checksum).as_deref() == sum
}

/// 16 hexadecimal digits that a damaged text does not have.
fn checksum(text: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(text.as_bytes());
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    const_hex::encode(sum)
}

fn decimal(text: &str) -> Option<u64> {
    // A sign would be a second spelling.
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn epoch(text: &str) -> Option<u32> {
    let epoch = u32::try_from(decimal(text)?).ok()?;
    (epoch < Generation::MAX_EPOCH).then_some(epoch)
}

/// A generation that a store can have given out; a fence above all of them would be damage.
fn generation(text: &str) -> Option<Generation> {
    decimal(text).map(Generation).filter(|it| it.epoch() < Generation::MAX_EPOCH)
}

fn fence(text: &str) -> Option<(Namespace, Generation)> {
    let (namespace, fence) = text.split_once(' ')?;
    let mut id = [0; Namespace::BYTES];
    let is_hex = is_lower_hex(namespace) && const_hex::decode_to_slice(namespace, &mut id).is_ok();
    let fence = generation(fence)?;
    is_hex.then_some((Namespace(id), fence))
}

fn is_boot(text: &str) -> bool {
    (1..=MAX_BOOT_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_identity(text: &str) -> bool {
    text.len() == 2 * blake3::OUT_LEN && is_lower_hex(text)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full() -> Format {
        Format {
            epoch: 7,
            cap_bytes: Some(100 << 30),
            boot: Some("5f0c3a52-3c55-4f6e-9c2d-9b0d6a0c2f11".to_owned()),
            mount: Some(42),
            durable: Some(Generation(1_001)),
            purged_all: Some(Generation(17)),
            purged: vec![
                (Namespace::SHARED, Generation(18)),
                (Namespace::of_instance("main"), Generation(19)),
            ],
            former: Some(Generation(16)),
            clean: Some("9d".repeat(32)),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for format in [full(), Format::default(), Format { durable: None, ..full() }] {
            let text = format.to_string();
            assert!(text.starts_with(&format!("castellan 1\nepoch {}\n", format.epoch)));
            assert_eq!(Format::parse(&text), Ok(format), "{text}");
        }
    }

    #[test]
    fn files_of_the_first_build_are_read() {
        for (text, epoch) in [
            ("castellan 1\nepoch 41\n", 41),
            ("castellan 1\nepoch 41", 41),
            ("castellan 1\r\nepoch 41\r\n", 41),
            ("castellan 1\nepoch 4294967295\n", 0),
            ("castellan 1\nepoch +4\n", 0),
            ("castellan 1\nepoch \n", 0),
            ("castellan 1\n", 0),
            ("castellan 1", 0),
        ] {
            let expected = Format { epoch, ..Format::default() };
            assert_eq!(Format::parse(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn another_first_line_is_the_only_error() {
        for text in ["", "\n", "castellan 2\nepoch 1\n", "castellan 1 \n", "\ncastellan 1\n"] {
            assert!(Format::parse(text).is_err(), "{text:?}");
        }
        let error = Format::parse(&"x".repeat(10_000)).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
    }

    #[test]
    fn lines_of_a_later_build_are_skipped() {
        let text = full().to_string();
        let (before, _) = text.rsplit_once("sum ").unwrap();
        let later = format!("{before}colour blue\n\nword\n");
        let later = format!("{later}sum {}\n", checksum(&later));
        assert_eq!(Format::parse(&later), Ok(full()));
    }

    #[test]
    fn the_highest_fence_and_epoch_count_and_the_lowest_promise() {
        let text = "castellan 1\nepoch 9\nepoch 3\npurged_all 5\npurged_all 7\npurged_all x\n\
                    purged 00000000000000000000000000000000 4\n\
                    purged 00000000000000000000000000000000 6\n\
                    purged 00000000000000000000000000000000 5\ndurable 8\ndurable 6\ndurable 7\n";
        let format = Format::parse(&format!("{text}sum {}\n", checksum(text))).unwrap();
        assert_eq!((format.epoch, format.purged_all), (9, Some(Generation(7))));
        assert_eq!(format.purged, [(Namespace::SHARED, Generation(6))]);
        assert_eq!(format.durable, Some(Generation(6)));
    }

    #[test]
    fn damaged_values_are_missing() {
        let text = "castellan 1\ncap 5 \nboot a b\nmount -1\npurged_all 18446744073709551615\n\
                    purged 00 4\npurged 0000000000000000000000000000000G 4\npurged x\n\
                    durable 99999999999999999999\nclean 9d\n";
        let format = Format::parse(&format!("{text}sum {}\n", checksum(text))).unwrap();
        assert_eq!(format, Format::default());
        let odd = Format {
            boot: Some("two\nlines".to_owned()),
            clean: Some("no digest".to_owned()),
            ..Format::default()
        };
        assert_eq!(Format::parse(&odd.to_string()), Ok(Format::default()));
    }

    /// What is left of [`full`] when its checksum does not hold.
    fn cautious() -> Format {
        Format { durable: None, clean: None, ..full() }
    }

    #[test]
    fn without_its_checksum_a_file_promises_nothing() {
        let text = full().to_string();
        let (before, sum) = text.rsplit_once("sum ").unwrap();
        for damaged in [
            before.to_owned(),
            format!("{before}sum 0000000000000000\n"),
            format!("{before}sum {}\n", &sum[..8]),
            format!("{before}Sum {sum}"),
            format!("{text}later 1\n"),
            format!("{before}sum {sum}sum 0\n"),
            text.trim_end().to_owned(),
        ] {
            assert_eq!(Format::parse(&damaged), Ok(cautious()), "{damaged}");
        }
    }

    #[test]
    fn a_changed_or_cut_file_never_promises_more() {
        let text = full().to_string();
        for length in 0..text.len() {
            if let Ok(format) = Format::parse(&text[..length]) {
                assert_eq!((format.durable, format.clean), (None, None), "{length}");
            }
        }
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(format) = Format::parse(&String::from_utf8(bytes).unwrap()) else {
                    continue;
                };
                assert_eq!((format.durable, format.clean), (None, None), "{at}.{bit}");
            }
        }
    }

    fn any_generation() -> impl Strategy<Value = Generation> {
        (0..u64::from(Generation::MAX_EPOCH), any::<u32>()).prop_map(|(epoch, count)| {
            let epoch = u32::try_from(epoch).unwrap();
            Generation(Generation::first_of_epoch(epoch).0 + u64::from(count))
        })
    }

    prop_compose! {
        fn any_format()(
            epoch in 0..Generation::MAX_EPOCH,
            cap_bytes in any::<Option<u64>>(),
            boot in prop::option::of("[!-~]{1,128}"),
            mount in any::<Option<u64>>(),
            durable in prop::option::of(any_generation()),
            purged_all in prop::option::of(any_generation()),
            former in prop::option::of(any_generation()),
            purged in prop::collection::btree_map(any::<[u8; 16]>(), any_generation(), 0..9),
            clean in prop::option::of("[0-9a-f]{64}"),
        ) -> Format {
            let purged = purged.into_iter().map(|(id, fence)| (Namespace(id), fence)).collect();
            Format { epoch, cap_bytes, boot, mount, durable, purged_all, purged, former, clean }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_format_is_read_as_written(format in any_format()) {
            prop_assert_eq!(Format::parse(&format.to_string()), Ok(format));
        }

        #[test]
        fn no_text_panics_and_none_promises_without_a_checksum(
            lines in prop::collection::vec(
                "(epoch|cap|mount|durable|purged_all|purged|clean|sum) [0-9a-f ]{0,40}|.{0,20}",
                0..12,
            ),
        ) {
            let format = Format::parse(&format!("castellan 1\n{}", lines.join("\n"))).unwrap();
            prop_assert_eq!((format.durable, format.clean), (None, None));
        }
    }
}
