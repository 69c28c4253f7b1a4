//! Archive: once and now, what the schedules do by themselves.

use crate::show::{Failure, counted, print};
use clap::Args;
use std::path::PathBuf;

/// Compacts, reconciles and lets expire what may go, once, in a data folder nobody works in; `stele dev` does it by itself
#[derive(Args, Debug)]
pub(crate) struct Archive {
    /// Data folder
    #[arg(long, env = "STELE_DATA", default_value = "./.stele", value_name = "DIR")]
    data: PathBuf,
    /// Take the day under way for closed, so that everything sealed goes into the archive now, in smaller files
    #[arg(long)]
    close_today: bool,
}

/// Runs it.
pub(crate) fn run(args: &Archive) -> Result<(), Failure> {
    let archive = stele_local::archive(&args.data);
    if !archive.is_dir() {
        // Opening it would create it, and call an empty folder a success.
        let (archive, data) = (archive.display(), args.data.display());
        return Err(Failure::CouldNot(format!(
            "there is no `{archive}`: is `{data}` the data folder? Give it with --data"
        )));
    }
    let once = stele_local::archive_once(&args.data, args.close_today);
    let round = crate::runtime()?.block_on(once).map_err(|e| Failure::of(&e))?;
    print(format!("archived {} in {}", counted(round.archived, "event"), counted(round.files, "file")))?;
    print(format!("every closed day is proven for {}", counted(round.reconciled, "tenant")))?;
    if round.expired > 0 {
        print(format!("{} went, their retention being over", counted(round.expired, "object")))?;
    }
    match round.unreconciled {
        0 => Ok(()),
        tenants => Err(Failure::Refused(format!(
            "something stands against the closed days of {}: the log lines above say what",
            counted(tenants, "tenant")
        ))),
    }
}
