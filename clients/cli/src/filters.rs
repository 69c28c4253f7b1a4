//! Which events: the filters that commands share, by the names the API has for them.

use crate::import::tenant;
use crate::show::{Clean, Failure};
use clap::Args;
use stele::Code;
use stele::id::TenantId;
use stele::query::{Filter, filter};
use stele::routes::Parameters;
use stele::time::Timestamp;

/// Which events. Different filters must all hold, of a repeated one any
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filters {
    /// Whose; a key bound to a tenant implies it
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// In the filter language, as `time:-7d action:invoice.* (actor:alice OR ip:10.0.0.0/8)`
    #[arg(long, value_name = "FILTER", allow_hyphen_values = true)]
    q: Option<String>,
    /// Of this actor, by id
    #[arg(long, value_name = "ID")]
    actor: Vec<String>,
    /// Of actors with this in their name
    #[arg(long, value_name = "TEXT")]
    actor_name: Vec<String>,
    /// With this action, or with `prefix.*`
    #[arg(long)]
    action: Vec<String>,
    /// On this kind of resource
    #[arg(long, value_name = "TYPE")]
    resource_type: Vec<String>,
    /// On this resource, by id
    #[arg(long, value_name = "ID")]
    resource: Vec<String>,
    /// With this outcome: success, failure or denied
    #[arg(long)]
    outcome: Vec<String>,
    /// From this address
    #[arg(long)]
    ip: Vec<String>,
    /// With this text in action, names, ids, description or metadata
    #[arg(long, value_name = "TEXT")]
    search: Vec<String>,
    /// From this time on: RFC 3339, or a UTC day
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

impl Filters {
    /// As parameters of a query, tenant included.
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        pairs.extend(self.tenant.as_ref().map(|tenant| ("tenant_id", tenant.as_str())));
        for (name, value) in [("q", &self.q), ("from", &self.from), ("to", &self.to)] {
            pairs.extend(value.as_deref().map(|value| (name, value)));
        }
        let many = [
            ("actor_id", &self.actor),
            ("actor_name", &self.actor_name),
            ("action", &self.action),
            ("resource_type", &self.resource_type),
            ("resource_id", &self.resource),
            ("outcome", &self.outcome),
            ("ip", &self.ip),
            ("search", &self.search),
        ];
        for (name, values) in many {
            pairs.extend(values.iter().map(|value| (name, value.as_str())));
        }
        pairs
    }

    /// All of them as one filter, read here: what is wrong with one is shown where it stands, before anything is asked.
    pub(crate) fn filter(&self) -> Result<Filter, Failure> {
        let pairs = self.pairs().into_iter().filter(|(name, _)| *name != "tenant_id");
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // What is relative stays so in what was asked.
        filter(&Parameters::from_pairs(pairs), Timestamp::MAX).map_err(|e| {
            let mut text = format!("{}: {}", e.code().as_str(), Clean(e.detail()));
            if let (Code::BadFilter, Some(position), Some(q)) = (e.code(), e.position(), &self.q) {
                let before: String =
                    q.chars().take(position.column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
                text.push_str(&format!("\n  {}\n  {before}^", Clean(q)));
            }
            let meant = e.problems().first().and_then(|problem| problem.suggestion.as_deref());
            if let Some(meant) = meant {
                text.push_str(&format!("\n  did you mean `{}`?", Clean(meant)));
            }
            Failure::Refused(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_parameters_and_one_filter() {
        let filters = Filters {
            tenant: TenantId::parse("org_a"),
            q: Some("time:-7d".to_owned()),
            actor: vec!["u2".to_owned(), "u1".to_owned()],
            outcome: vec!["denied".to_owned()],
            ..Filters::default()
        };
        assert_eq!(
            filters.pairs(),
            [
                ("tenant_id", "org_a"),
                ("q", "time:-7d"),
                ("actor_id", "u2"),
                ("actor_id", "u1"),
                ("outcome", "denied")
            ]
        );
        assert_eq!(filters.filter().unwrap().asked().to_string(), "time:-1w outcome:denied actor.id:u1,u2");
    }

    #[test]
    fn what_is_wrong_with_q_is_shown_where_it_stands() {
        let filters = Filters { q: Some("ä actr:u1".to_owned()), ..Filters::default() };
        let Err(Failure::Refused(text)) = filters.filter() else { panic!("it is refused") };
        assert_eq!(
            text,
            "bad_filter: there is no field `actr`, at character 3\n  ä actr:u1\n    ^\n  did you mean `actor`?"
        );
    }
}
