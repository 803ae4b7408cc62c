//! Directories as `NativeLink` and bazel-remote leave them, to try out what a start makes of them.
//!
//! ```text
//! former_cache generate --layout LAYOUT [--blobs N] [--hostile] [--seed N] DIR
//! former_cache lay-out --layout LAYOUT --from CASTELLAN_DIR [--instance NAME] DIR
//! ```

mod fixtures;
mod lay_out;

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Parser;
use fixtures::site::Layout;
use fixtures::{Plan, generate};

#[derive(Parser)]
#[command(about = "Makes directories as other servers leave them")]
enum Command {
    /// Fills a directory with made-up values, and says in DIR.manifest.tsv what is in it.
    Generate {
        #[arg(long)]
        layout: Layout,
        /// How many blobs; there are fewer results and other values.
        #[arg(long, default_value_t = 100_000)]
        blobs: u64,
        /// Adds files that lie.
        #[arg(long)]
        hostile: bool,
        /// Other seeds have other bytes.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        dir: PathBuf,
    },
    /// Copies the values of a Castellan that has stopped.
    LayOut {
        #[arg(long)]
        layout: Layout,
        /// The directory of that Castellan.
        #[arg(long)]
        from: PathBuf,
        /// Keeps results as bazel-remote keeps those of an instance, when it mangles.
        #[arg(long, default_value = "")]
        instance: String,
        dir: PathBuf,
    },
}

fn main() -> io::Result<()> {
    let mut stdout = io::stdout();
    match Command::parse() {
        Command::Generate { layout, blobs, hostile, seed, dir } => {
            let plan = Plan { layout, blobs, is_hostile: hostile, seed };
            let keys = generate(&plan, &dir)?.len();
            writeln!(stdout, "{keys} keys in {}", dir.display())
        }
        Command::LayOut { layout, from, instance, dir } => {
            let copied = lay_out::lay_out(layout, &from, &instance, &dir)?;
            writeln!(stdout, "{copied} in {}", dir.display())
        }
    }
}
