//! Rebuild: the database again, from the sealed files alone.

use crate::cloud::Place;
use crate::show::{Failure, counted, note, print};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use stele_seal::Rebuilt;

/// Without a terminal, it says how far it is after so many segments.
const SAY_EVERY: u64 = 100;

/// Restores a lost database from the sealed files; nothing may seal meanwhile (`stele dev`, the function `seal`)
#[derive(Args, Debug)]
pub(crate) struct Rebuild {
    /// Data folder
    #[arg(long, env = "STELE_DATA", default_value = "./.stele", value_name = "DIR")]
    data: PathBuf,
    /// Name of an installation in AWS, instead of a data folder
    #[arg(long, value_name = "NAME")]
    installation: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Runs it.
pub(crate) fn run(args: &Rebuild) -> Result<(), Failure> {
    let is_terminal = io::stderr().is_terminal();
    let bar = if is_terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is well formed"));
    let said = AtomicU64::new(0);
    let progress = |rebuilt: &Rebuilt| {
        let text = format!(
            "{}, {}, {}",
            counted(rebuilt.files, "archive file"),
            counted(rebuilt.segments, "segment"),
            counted(rebuilt.records, "event")
        );
        if is_terminal {
            bar.set_message(text);
            bar.tick();
        } else if said.fetch_add(1, Ordering::Relaxed) % SAY_EVERY == SAY_EVERY - 1 {
            note(text);
        }
    };
    let rebuilt = match &args.installation {
        Some(installation) => installed(installation, &args.place, &progress),
        None => local(&args.data, &progress),
    };
    bar.finish_and_clear();
    let Rebuilt { tenants, files, segments, records, forgotten } = rebuilt?;
    print(format!(
        "rebuilt {} from {} and {}: {} are back in the database",
        counted(tenants, "log"),
        counted(files, "archive file"),
        counted(segments, "segment"),
        counted(records, "event"),
    ))?;
    if forgotten > 0 {
        print(format!(
            "{} are older than the database keeps them; they stay sealed",
            counted(forgotten, "event")
        ))?;
    }
    print(
        "not in the sealed files, so not restored: events that were never sealed, API keys made with `stele keys`, \
           settings of tenants",
    )
}

fn local(data: &Path, progress: &(dyn Fn(&Rebuilt) + Sync)) -> Result<Rebuilt, Failure> {
    let archive = stele_local::archive(data);
    if !archive.is_dir() {
        // Opening it would create it, and call an empty folder a success.
        let (archive, data) = (archive.display(), data.display());
        return Err(Failure::CouldNot(format!(
            "there is no `{archive}`: is `{data}` the data folder? Give it with --data"
        )));
    }
    crate::runtime()?.block_on(stele_local::rebuild(data, progress)).map_err(|e| Failure::of(&e))
}

#[cfg(feature = "aws")]
fn installed(name: &str, place: &Place, progress: &(dyn Fn(&Rebuilt) + Sync)) -> Result<Rebuilt, Failure> {
    crate::runtime()?.block_on(async {
        let cloud = crate::cloud::Cloud::open(name, place).await?;
        cloud.rebuild(progress).await.map_err(|e| Failure::of(&e))
    })
}

#[cfg(not(feature = "aws"))]
fn installed(_: &str, _: &Place, _: &(dyn Fn(&Rebuilt) + Sync)) -> Result<Rebuilt, Failure> {
    Err(crate::cloud::without_aws())
}
