//! What a filter says, as a value: fields, tests on them, and how they are joined. Parameters and the text `q` both become
//! this one form; everything else about filters is read off it.
//!
//! It is kept in a normal form (negation at the atoms, nothing nested without need, sorted, each once), so that filters
//! that say the same mostly are the same.

use crate::id::EventId;
use crate::time::Timestamp;
use crate::wire::Integrity;
use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Conditions, joined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expression {
    /// A condition that must hold.
    Is(Atom),
    /// A condition that must not hold.
    Not(Atom),
    /// Any of them; of none: nothing.
    Any(Vec<Expression>),
    /// All of them; of none: everything.
    All(Vec<Expression>),
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Atom {
    /// Of what.
    pub field: Field,
    /// What must hold of it.
    pub test: Test,
}

/// What of an event is looked at, cheapest first: that is also the order in which conditions are tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `is`: where the event stands.
    State,
    /// `id`
    Id,
    /// `time`: `occurred_at`.
    Time,
    /// `received`: `received_at`.
    Received,
    /// `action`
    Action,
    /// `actor.id`
    ActorId,
    /// `resource.id`
    ResourceId,
    /// `outcome`
    Outcome,
    /// `actor.type`
    ActorType,
    /// `resource.type`
    ResourceType,
    /// `key`: the API key that sent it.
    Key,
    /// `ip`
    Ip,
    /// `actor.email`
    ActorEmail,
    /// `actor.name`
    ActorName,
    /// `resource.name`
    ResourceName,
    /// `reason`
    Reason,
    /// `ua`: the user agent.
    UserAgent,
    /// `session`
    Session,
    /// `request`
    Request,
    /// `trace`
    Trace,
    /// `external_id`
    ExternalId,
    /// `description`
    Description,
    /// `changes.<path>`
    Changes {
        /// RFC 6901, as `/plan`.
        path: String,
        /// Which of its values.
        side: Side,
    },
    /// `metadata.<key>`, from object to object.
    Metadata(Vec<String>),
    /// No field: the texts that `search` looks at.
    Text,
}

/// Which value of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// What it became; meant where neither is named.
    After,
    /// What it was.
    Before,
    /// Neither: that the path was changed at all.
    Told,
}

/// What must hold of a field. Where a field [folds](Field::folds), texts in here are folded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// It is there, and not null.
    Exists,
    /// It is this text; of a JSON value: this string, number, boolean or null, or a list with it.
    Equals(String),
    /// It begins with this.
    Prefix(String),
    /// It has this in it.
    Contains(String),
    /// It is this event's.
    Id(EventId),
    /// It lies between these.
    Within(Interval),
    /// It is an address of this network.
    Network(Network),
    /// It is a JSON number between these.
    Number(Numbers),
    /// It is (also) this.
    State(State),
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// In the hot store, not in the log yet.
    Recorded,
    /// In the log; as a condition also what is archived.
    Sealed,
    /// In the archive.
    Archived,
}

/// Times, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// The first.
    pub from: Option<Moment>,
    /// The last.
    pub until: Option<Moment>,
}

/// A time as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// This one.
    At(Timestamp),
    /// So many milliseconds before the question. Not in an expression that [`Expression::at`] made.
    Ago(u64),
}

/// Addresses. IPv4 in IPv6 counts as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Numbers between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Numbers {
    /// The least, and whether it is included.
    pub from: Option<(Number, bool)>,
    /// The greatest, and whether it is included.
    pub until: Option<(Number, bool)>,
}

/// A finite number.
#[derive(Clone, Copy, Debug)]
pub struct Number(f64);

impl Expression {
    /// Everything.
    pub const EVERYTHING: Expression = Expression::All(Vec::new());

    /// All of some.
    pub fn all(parts: impl IntoIterator<Item = Expression>) -> Expression {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Expression::All(parts) => flat.extend(parts),
                Expression::Any(parts) if parts.is_empty() => return Expression::Any(parts),
                part => flat.push(part),
            }
        }
        Expression::joined(flat, Expression::All)
    }

    /// Any of some.
    pub fn any(parts: impl IntoIterator<Item = Expression>) -> Expression {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Expression::Any(parts) => flat.extend(parts),
                Expression::All(parts) if parts.is_empty() => return Expression::All(parts),
                part => flat.push(part),
            }
        }
        Expression::joined(flat, Expression::Any)
    }

    fn joined(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
        parts.sort_unstable();
        parts.dedup();
        match parts.len() {
            1 => parts.swap_remove(0),
            _ => join(parts),
        }
    }

    /// The opposite.
    pub fn negated(self) -> Expression {
        match self {
            Expression::Is(atom) => Expression::Not(atom),
            Expression::Not(atom) => Expression::Is(atom),
            Expression::Any(parts) => Expression::all(parts.into_iter().map(Expression::negated)),
            Expression::All(parts) => Expression::any(parts.into_iter().map(Expression::negated)),
        }
    }

    /// A condition.
    pub fn is(field: Field, test: Test) -> Expression {
        Expression::Is(Atom { field, test })
    }

    /// The conditions that must all hold, on the outermost level.
    pub fn conjuncts(&self) -> &[Expression] {
        match self {
            Expression::All(parts) => parts,
            one => std::slice::from_ref(one),
        }
    }

    /// Shows every condition.
    pub fn visit(&self, see: &mut dyn FnMut(&Atom)) {
        match self {
            Expression::Is(atom) | Expression::Not(atom) => see(atom),
            Expression::Any(parts) | Expression::All(parts) => {
                for part in parts {
                    part.visit(see);
                }
            }
        }
    }

    /// Whether a condition for which this holds is in it.
    pub fn has(&self, holds: impl Fn(&Atom) -> bool) -> bool {
        let mut found = false;
        self.visit(&mut |atom| found |= holds(atom));
        found
    }

    /// With times instead of "so long ago".
    pub fn at(&self, now: Timestamp) -> Expression {
        let resolved = |atom: &Atom| match &atom.test {
            Test::Within(interval) => {
                Atom { field: atom.field.clone(), test: Test::Within(interval.at(now)) }
            }
            _ => atom.clone(),
        };
        match self {
            Expression::Is(atom) => Expression::Is(resolved(atom)),
            Expression::Not(atom) => Expression::Not(resolved(atom)),
            Expression::Any(parts) => Expression::any(parts.iter().map(|part| part.at(now))),
            Expression::All(parts) => Expression::all(parts.iter().map(|part| part.at(now))),
        }
    }

    /// Whether it holds, by what is known of its conditions: `None` where that does not decide it.
    ///
    /// # Errors
    /// What `judge` answers; it is not asked further than needed.
    pub fn evaluate<E>(
        &self,
        judge: &mut dyn FnMut(&Atom) -> Result<Option<bool>, E>,
    ) -> Result<Option<bool>, E> {
        let (parts, decisive) = match self {
            Expression::Is(atom) => return judge(atom),
            Expression::Not(atom) => return Ok(judge(atom)?.map(|holds| !holds)),
            Expression::Any(parts) => (parts, true),
            Expression::All(parts) => (parts, false),
        };
        let mut known = true;
        for part in parts {
            match part.evaluate(judge)? {
                Some(holds) if holds == decisive => return Ok(Some(decisive)),
                Some(_) => {}
                None => known = false,
            }
        }
        Ok(known.then_some(!decisive))
    }
}

impl Field {
    /// Its name in `q`; of changes and metadata, what stands before the path.
    pub fn name(&self) -> &'static str {
        match self {
            Field::State => "is",
            Field::Id => "id",
            Field::Time => "time",
            Field::Received => "received",
            Field::Action => "action",
            Field::ActorId => "actor.id",
            Field::ResourceId => "resource.id",
            Field::Outcome => "outcome",
            Field::ActorType => "actor.type",
            Field::ResourceType => "resource.type",
            Field::Key => "key",
            Field::Ip => "ip",
            Field::ActorEmail => "actor.email",
            Field::ActorName => "actor.name",
            Field::ResourceName => "resource.name",
            Field::Reason => "reason",
            Field::UserAgent => "ua",
            Field::Session => "session",
            Field::Request => "request",
            Field::Trace => "trace",
            Field::ExternalId => "external_id",
            Field::Description => "description",
            Field::Changes { .. } => "changes",
            Field::Metadata(_) => "metadata",
            Field::Text => "text",
        }
    }

    /// Whether case makes no difference in it.
    pub fn folds(&self) -> bool {
        self.is_prose() || matches!(self, Field::ActorEmail | Field::Text)
    }

    /// Whether a value means a part of it: names and sentences, which nobody types whole.
    pub fn is_prose(&self) -> bool {
        matches!(
            self,
            Field::ActorName | Field::ResourceName | Field::Reason | Field::UserAgent | Field::Description
        )
    }
}

impl Test {
    /// Whether it holds of a text of the field.
    pub fn holds(&self, field: &Field, text: &str) -> bool {
        let compare = |text: &str| match self {
            Test::Equals(whole) => text == whole,
            Test::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Test::Contains(part) => text.contains(part.as_str()),
            _ => false,
        };
        match self {
            Test::Exists => true,
            Test::Id(id) => EventId::parse(text) == Some(*id),
            Test::Network(network) => text.parse().is_ok_and(|address| network.contains(address)),
            Test::Within(_) | Test::Number(_) | Test::State(_) => false,
            Test::Equals(_) | Test::Prefix(_) | Test::Contains(_) if field.folds() => compare(&fold(text)),
            Test::Equals(_) | Test::Prefix(_) | Test::Contains(_) => compare(text),
        }
    }
}

impl State {
    /// All of them, by name.
    pub const ALL: [(&'static str, State); 3] =
        [("recorded", State::Recorded), ("sealed", State::Sealed), ("archived", State::Archived)];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            State::Recorded => "recorded",
            State::Sealed => "sealed",
            State::Archived => "archived",
        }
    }

    /// Whether an event that stands there is what is asked for: what is archived is sealed, too.
    pub fn includes(self, stands: State) -> bool {
        self == stands || (self, stands) == (State::Sealed, State::Archived)
    }
}

impl From<Integrity> for State {
    fn from(integrity: Integrity) -> State {
        match integrity {
            Integrity::Recorded => State::Recorded,
            Integrity::Sealed { .. } => State::Sealed,
            Integrity::Archived { .. } => State::Archived,
        }
    }
}

impl Interval {
    fn at(self, now: Timestamp) -> Interval {
        let at = |moment: Moment| Moment::At(moment.at(now));
        Interval { from: self.from.map(at), until: self.until.map(at) }
    }

    /// First and last time. Of what is relative nothing is known: as if there were no bound.
    pub fn bounds(&self) -> (Timestamp, Timestamp) {
        let known = |moment: Option<Moment>| match moment {
            Some(Moment::At(time)) => Some(time),
            Some(Moment::Ago(_)) | None => None,
        };
        (known(self.from).unwrap_or_default(), known(self.until).unwrap_or(Timestamp::MAX))
    }

    /// Whether a time lies in it.
    pub fn contains(&self, time: Timestamp) -> bool {
        let (from, until) = self.bounds();
        from <= time && time <= until
    }
}

impl Moment {
    /// Which time that was at `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Moment::At(time) => time,
            Moment::Ago(ms) => now.minus_ms(ms),
        }
    }
}

impl Network {
    /// The network of so many leading bits of an address; what is behind them is cut off. `None` for more bits than
    /// there are.
    pub fn new(address: IpAddr, bits: u8) -> Option<Network> {
        match address {
            IpAddr::V6(v6) => match v6.to_ipv4_mapped().filter(|_| bits >= 96) {
                Some(v4) => Network::new(IpAddr::V4(v4), bits - 96),
                None => {
                    let mask = u128::MAX.checked_shl(128_u32.checked_sub(u32::from(bits))?).unwrap_or(0);
                    Some(Network { address: IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)), bits })
                }
            },
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(u32::from(bits))?).unwrap_or(0);
                Some(Network { address: IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask)), bits })
            }
        }
    }

    /// A single address.
    pub fn of(address: IpAddr) -> Network {
        let address = address.to_canonical();
        Network { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits its addresses share.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether it is one address.
    pub fn is_single(&self) -> bool {
        self.bits == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = self.mapped();
        let address = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        (first..=last).contains(&address.to_bits())
    }

    /// First and last address as those of IPv6, IPv4 mapped.
    pub fn mapped(&self) -> (u128, u128) {
        let (first, free) = match self.address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), 32 - u32::from(self.bits)),
            IpAddr::V6(v6) => (v6.to_bits(), 128 - u32::from(self.bits)),
        };
        (first, first | !u128::MAX.checked_shl(free).unwrap_or(0))
    }
}

impl Numbers {
    /// Whether a number lies between them.
    pub fn contains(&self, number: f64) -> bool {
        self.from.is_none_or(|(from, included)| from.0 < number || included && from.0 == number)
            && self.until.is_none_or(|(until, included)| number < until.0 || included && number == until.0)
    }
}

impl Number {
    /// A finite number; minus zero is zero.
    pub fn new(number: f64) -> Option<Number> {
        number.is_finite().then_some(Number(number + 0.0))
    }

    /// As JSON writes numbers, nothing else.
    pub fn parse(text: &str) -> Option<Number> {
        let first = text.strip_prefix('-').unwrap_or(text).bytes().next()?;
        let digits = text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        (first.is_ascii_digit() && digits).then(|| text.parse().ok()).flatten().and_then(Number::new)
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl std::hash::Hash for Number {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// A text without its case: each character in its simple lower case, as the `lower` of SQL engines has it. Unlike a
/// whole text's lower case it is the same for a part of the text.
pub fn fold(text: &str) -> String {
    match text.is_ascii() {
        true => text.to_ascii_lowercase(),
        false => text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn action(text: &str) -> Expression {
        Expression::is(Field::Action, Test::Equals(text.to_owned()))
    }

    #[test]
    fn what_says_the_same_is_the_same() {
        let (a, b, c) = (|| action("a.a"), || action("b.b"), || action("c.c"));
        assert_eq!(
            Expression::any([c(), Expression::any([b(), a(), b()])]),
            Expression::any([a(), b(), c()])
        );
        assert_eq!(Expression::all([a()]), a());
        assert_eq!(
            Expression::any([a(), b()]).negated(),
            Expression::all([Expression::negated(b()), Expression::negated(a())])
        );
        assert_eq!(Expression::any([a(), Expression::EVERYTHING]), Expression::EVERYTHING);
        assert_eq!(Expression::all([a(), Expression::any([])]), Expression::any([]));
        assert_eq!(Expression::all([a(), b()]).negated().negated(), Expression::all([a(), b()]));
    }

    #[test]
    fn networks_hold_their_addresses_in_every_spelling() {
        let network = |text: &str, bits| Network::new(text.parse().unwrap(), bits).unwrap();
        let holds = |network: Network, text: &str| network.contains(text.parse().unwrap());
        let v4 = network("203.0.113.77", 24);
        assert_eq!((v4.address(), v4.bits()), ("203.0.113.0".parse().unwrap(), 24));
        assert!(
            holds(v4, "203.0.113.255") && holds(v4, "::ffff:203.0.113.1") && holds(v4, "::ffff:cb00:7101")
        );
        assert!(!holds(v4, "203.0.114.0") && !holds(v4, "::203.0.113.1"));
        assert_eq!(network("::ffff:203.0.113.0", 120), v4);
        let v6 = network("2001:db8::1", 32);
        assert!(holds(v6, "2001:db8:ffff::") && !holds(v6, "2001:db9::"));
        assert!(holds(network("::", 0), "255.1.2.3") && holds(network("0.0.0.0", 0), "255.1.2.3"));
        assert!(!holds(network("0.0.0.0", 0), "2001:db8::1"));
        assert!(Network::of("::1".parse().unwrap()).is_single());
        assert_eq!(Network::new("1.2.3.4".parse().unwrap(), 33), None);
        assert_eq!(Network::new("::".parse().unwrap(), 129), None);
    }

    #[test]
    fn numbers_are_those_of_json() {
        for bad in ["", "-", "inf", "NaN", "0x1", "+1", ".5", "1e999", "1,5", "1 "] {
            assert_eq!(Number::parse(bad), None, "{bad}");
        }
        assert_eq!(Number::parse("-0"), Number::new(0.0));
        assert_eq!(Number::parse("-1.5e3"), Number::new(-1500.0));
        let half_open = Numbers { from: Some((Number(1.0), false)), until: Some((Number(2.0), true)) };
        assert!(!half_open.contains(1.0) && half_open.contains(2.0) && !half_open.contains(2.1));
    }

    proptest! {
        #[test]
        fn a_part_of_a_text_folds_to_a_part(text: String, cut: (usize, usize)) {
            let chars: Vec<char> = text.chars().collect();
            let (from, to) = (cut.0 % (chars.len() + 1), cut.1 % (chars.len() + 1));
            let part: String = chars[from.min(to)..from.max(to)].iter().collect();
            prop_assert!(fold(&text).contains(&fold(&part)));
            prop_assert_eq!(fold(&fold(&text)), fold(&text));
        }
    }
}
