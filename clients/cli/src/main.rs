//! `stele`: try it, fill it, ask it, prove it.
//!
//! Exit codes: 0 done, 1 refused or refuted, 2 could not (wrong usage, unreachable, unreadable).

mod show;
mod log;
mod client;
mod cloud;
mod items;
mod import;
mod dev;
mod send;
mod zone;
mod filters;
mod query;
mod tail;
mod keys;
mod retention;
mod hold;
mod generate;
mod verify;
mod bundle;
mod export;
mod witness;
mod rebuild;
mod archive;
mod doctor;
mod openapi;
mod cost;

use crate::show::{Failure, note};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// Audit logs set in stone
#[derive(Parser, Debug)]
#[command(name = "stele", version, after_help = "Without a command it does what `stele dev` does.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    Dev(dev::Dev),
    Send(send::Send),
    Import(import::Import),
    Query(query::Query),
    Tail(tail::Tail),
    Checkpoint(query::Checkpoint),
    Keys(keys::Keys),
    Retention(retention::Retention),
    Hold(hold::Hold),
    Verify(verify::Verify),
    Bundle(bundle::Bundle),
    Export(export::Export),
    Witness(witness::Witness),
    Rebuild(rebuild::Rebuild),
    Archive(archive::Archive),
    Doctor(doctor::Doctor),
    Generate(generate::Generate),
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
    Cost(cost::Cost),
}

fn main() -> ExitCode {
    let command = match Cli::parse().command {
        Some(command) => command,
        // With the variables of the environment and the defaults that `stele dev` has.
        None => match Cli::parse_from(["stele", "dev"]).command {
            Some(command) => command,
            None => return ExitCode::from(2),
        },
    };
    log::start();
    match run(&command) {
        Ok(code) => code,
        Err(failure) => {
            if let Failure::Refused(why) | Failure::CouldNot(why) = &failure {
                note(format!("stele: {why}"));
            }
            failure.exit_code()
        }
    }
}

fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Dev(args) => dev::run(args),
        Command::Send(args) => send::run(args),
        Command::Import(args) => import::run(args),
        Command::Query(args) => query::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Checkpoint(args) => query::checkpoint(args),
        Command::Keys(args) => keys::run(args),
        Command::Retention(args) => return retention::run(args),
        Command::Hold(args) => hold::run(args),
        Command::Verify(args) => {
            let verdict = verify::run(args)?;
            verify::advise(verdict);
            return Ok(ExitCode::from(verdict.exit_code()));
        }
        Command::Bundle(args) => bundle::run(args),
        Command::Export(args) => export::run(args),
        Command::Witness(args) => witness::run(args),
        Command::Rebuild(args) => rebuild::run(args),
        Command::Archive(args) => archive::run(args),
        Command::Doctor(args) => return doctor::run(args),
        Command::Generate(args) => generate::run(args),
        Command::OpenApi(args) => openapi::run(args),
        Command::Cost(args) => cost::run(args),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// What asynchronous commands run on.
fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().enable_all().build().map_err(|e| Failure::could_not("start", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn refused(args: &[&str]) -> ErrorKind {
        Cli::try_parse_from(args).unwrap_err().kind()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_documentation_parses() {
        for line in [
            "stele",
            "stele dev --listen 127.0.0.1:0 --data d --key a,b --key org_a:x:y",
            "stele dev --memory",
            "stele send event.json",
            "stele send - --url http://h --key k",
            "stele import a.ndjson b.json - --tenant org_a --batch 500 --refused r.ndjson",
            "stele generate --events 5 --tenants 2 --seed 9 --days 1 --until 2026-05-01 --ids",
            "stele keys create --name ci --tenant org_a --scope events:write --scope events:read",
            "stele keys list",
            "stele keys rotate --data d",
            "stele keys revoke abc --url http://h --key k",
            "stele verify --data d --since a --since b --public-key AA== --tenant org_a --json",
            "stele verify bundle b.zip --public-key AA== --max-age 26h --policy p --html r.html --json",
            "stele verify proof p.tlog-proof --event e.json --public-key AA==",
            "stele verify receipt r.txt --data d",
            "stele verify receipt r.txt --bundle b.zip --receipt-key AA==",
            "stele bundle --tenant org_a --data d --from 2026-05-01 --to 2026-06-01 --actor u1 --covering --out b.zip",
            "stele export --tenant org_a --format csv --actor u1 --action invoice.* --since last --out e.csv",
            "stele export --format evidence --covering --from 2026-05-01 --since 12 --out e.zip --url http://h --key k",
            "stele export --tenant org_a --resume exp_1 --out e.csv",
            "stele witness --listen 127.0.0.1:0 --data w --name w.example/1 --log-name stele.local --public-key AA==",
            "stele rebuild --data d",
            "stele archive --data d --close-today",
            "stele rebuild --installation stele --region eu-central-1 --profile audit",
            "stele verify --installation stele --tenant org_a",
            "stele doctor --installation stele --region eu-central-1 --profile audit --trial --json",
            "stele doctor",
            "stele keys bootstrap --name root --installation stele",
            "stele checkpoint --tenant org_a",
            "stele retention show --tenant org_a",
            "stele retention set --tenant org_a --class 2557 --hot-days 90 --applies-to new --yes",
            "stele retention report --data d --tenant org_a --json",
            "stele retention report --installation stele --region eu-central-1 --trial",
            "stele hold place --tenant org_a --from 2026-05-01 --to 2026-06-01 --reason x",
            "stele hold list --tenant org_a --state in_force",
            "stele hold release hold_1 --tenant org_a",
            "stele query --tenant org_a --actor u1 --action invoice.* --limit 10 --json",
            "stele query --q -action:a.b --outcome denied --ip 1.2.3.4 --all --format csv --tz local --order asc",
            "stele query --resource-type t --resource r --actor-name A --search s --tz -05:00 --explain",
            "stele tail --q is:sealed --tz +02:00 --limit 5 --json --once",
            "stele openapi",
            "stele cost --events-per-day 1000000 --avg-bytes 750 --retention 365 --tenants 9 --batch 100 --json",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_dev_key_is_taken_exactly_as_given() {
        let Some(Command::Dev(dev)) = Cli::try_parse_from(["stele", "dev", "--key", "a,b"]).unwrap().command
        else {
            panic!("it is `stele dev`")
        };
        assert!(format!("{dev:?}").contains(r#"keys: ["a,b"]"#));
    }

    #[test]
    fn wrong_arguments_are_refused_before_anything_is_done() {
        assert_eq!(refused(&["stele", "import"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(refused(&["stele", "import", "a", "--batch", "501"]), ErrorKind::ValueValidation);
        assert_eq!(refused(&["stele", "import", "a", "--tenant", "a/b"]), ErrorKind::ValueValidation);
        assert_eq!(
            refused(&["stele", "keys", "create", "--name", "n", "--scope", "all"]),
            ErrorKind::ValueValidation
        );
        assert_eq!(refused(&["stele", "dev", "--listen", "8787"]), ErrorKind::ValueValidation);
        assert_eq!(refused(&["stele", "generate", "--tenants", "0"]), ErrorKind::ValueValidation);
        assert_eq!(refused(&["stele", "doctor", "--data", "d"]), ErrorKind::UnknownArgument);
        assert_eq!(refused(&["stele", "retention", "set", "--class", "400"]), ErrorKind::ValueValidation);
        assert_eq!(refused(&["stele", "hold", "place"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(refused(&["stele", "export", "--out", "x"]), ErrorKind::MissingRequiredArgument);
        let xml = ["stele", "export", "--format", "xml", "--out", "x"];
        assert_eq!(refused(&xml), ErrorKind::ValueValidation);
        assert_eq!(refused(&["stele", "upload"]), ErrorKind::InvalidSubcommand);
    }
}
