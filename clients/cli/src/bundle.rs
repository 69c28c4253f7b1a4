//! Bundle: evidence for an auditor, in one file, made from the locked objects alone.

use crate::import::tenant;
use crate::show::{Failure, counted, note, print};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use stele::access::LogNumber;
use stele::bundle::BundleRequest;
use stele::id::TenantId;
use stele::ports::{Clock, LockedObjects};
use stele_adapters::bundle::write_bundle;
use stele_adapters::clock::SystemClock;
use stele_adapters::folder::LockedFolder;

/// Packs events with what proves them into one file for an auditor
#[derive(Args, Debug)]
#[command(after_help = "Check it with `stele verify bundle FILE`; what is in it says its README.txt.")]
pub(crate) struct Bundle {
    /// Whose events
    #[arg(long, value_parser = tenant)]
    tenant: TenantId,
    /// Data folder, or a copy of its `archive`
    #[arg(long, env = "STELE_DATA", default_value = "./.stele", value_name = "DIR")]
    data: PathBuf,
    /// Name of an installation in AWS, whose bucket is read instead of a folder
    #[arg(long, value_name = "NAME")]
    installation: Option<String>,
    #[command(flatten)]
    place: crate::cloud::Place,
    /// Of this actor, by id; can be repeated
    #[arg(long, value_name = "ID")]
    actor: Vec<String>,
    /// With this action, or with `prefix.*`; can be repeated
    #[arg(long)]
    action: Vec<String>,
    /// About this resource, by id; can be repeated
    #[arg(long, value_name = "ID")]
    resource: Vec<String>,
    /// With this text in action, names, ids, description or metadata
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// From this time on
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Also all events in between, so that it can be seen that none was left out
    #[arg(long)]
    covering: bool,
    /// The file to write; it must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: &Bundle) -> Result<(), Failure> {
    if args.out.exists() {
        return Err(Failure::CouldNot(format!("`{}` is there already", args.out.display())));
    }
    let many = |name: &str, values: &[String]| -> Vec<(String, String)> {
        values.iter().map(|value| (name.to_owned(), value.clone())).collect()
    };
    let mut filter = many("actor_id", &args.actor);
    filter.extend(many("action", &args.action));
    filter.extend(many("resource_id", &args.resource));
    for (name, value) in [("search", &args.search), ("from", &args.from), ("to", &args.to)] {
        filter.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
    }
    let request = BundleRequest { filter, covering: args.covering, ..BundleRequest::default() };
    let runtime = crate::runtime()?;
    let objects: Arc<dyn LockedObjects> = match &args.installation {
        Some(installation) => runtime.block_on(bucket(installation, &args.place))?,
        None => {
            let folder =
                LockedFolder::open_read_only(crate::verify::archive(&args.data), Arc::new(SystemClock));
            Arc::new(folder.map_err(|e| Failure::of(&e))?)
        }
    };
    let bar = match io::stderr().is_terminal() {
        true => ProgressBar::new(0).with_style(
            ProgressStyle::with_template("{bar:30} {percent}%  {eta} left")
                .expect("the template is well formed"),
        ),
        false => ProgressBar::hidden(),
    };
    let progress = |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    };
    let written = runtime.block_on(write_bundle(
        objects,
        &args.tenant,
        LogNumber::default(),
        &request,
        SystemClock.now(),
        None,
        None,
        &args.out,
        &progress,
    ));
    bar.finish_and_clear();
    let written = written.map_err(|e| Failure::of(&e))?;
    if written.leaves > written.matches {
        note(format!(
            "{} that match, and {} in between",
            counted(written.matches, "event"),
            written.leaves - written.matches
        ));
    }
    print(format!(
        "{}: {}, {} bytes, SHA-256 {}",
        args.out.display(),
        counted(written.leaves, "event"),
        written.bytes,
        written.sha256
    ))
}

#[cfg(feature = "aws")]
async fn bucket(installation: &str, place: &crate::cloud::Place) -> Result<Arc<dyn LockedObjects>, Failure> {
    let cloud = crate::cloud::Cloud::open(installation, place).await?;
    Ok(Arc::new(cloud.objects()))
}

#[cfg(not(feature = "aws"))]
async fn bucket(_: &str, _: &crate::cloud::Place) -> Result<Arc<dyn LockedObjects>, Failure> {
    Err(crate::cloud::without_aws())
}
