//! Names of tiles (<https://c2sp.org/tlog-tiles>): `<L>/<N>[.p/<W>]` for hashes, `entries/<N>[.p/<W>]` for leaves.

use super::tiles::TILE_LEAVES;
use std::fmt;

/// Levels of hash tiles: above the last one no log reaches.
const LEVEL_MAX: u32 = 63;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileKind {
    /// Hashes of subtrees of `256^level` leaves.
    Hashes {
        /// The level.
        level: u32,
    },
    /// Leaves.
    Entries,
}

/// A tile's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TilePath {
    /// What it holds.
    pub kind: TileKind,
    /// Which of its level, from 0.
    pub index: u64,
    /// How many entries it has: 1 to 256.
    pub width: u64,
}

impl TilePath {
    /// Parses a name, and no other spelling of it.
    pub fn parse(text: &str) -> Option<TilePath> {
        let (kind, rest) = text.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes { level: level.parse().ok().filter(|level| *level <= LEVEL_MAX)? },
        };
        let (digits, width) = match rest.split_once(".p/") {
            Some((digits, width)) => (digits, width.parse().ok().filter(|w| (1..TILE_LEAVES).contains(w))?),
            None => (rest, TILE_LEAVES),
        };
        let mut index = 0_u64;
        for group in digits.split('/') {
            let group: u64 =
                group.strip_prefix('x').unwrap_or(group).parse().ok().filter(|group| *group < 1000)?;
            index = index.checked_mul(1000)?.checked_add(group)?;
        }
        let path = TilePath { kind, index, width };
        (path.to_string() == text).then_some(path)
    }

    /// How many leaves one of its entries stands for; `None` for more than there can be.
    pub fn leaves_of_entry(&self) -> Option<u64> {
        match self.kind {
            TileKind::Hashes { level } => TILE_LEAVES.checked_pow(level),
            TileKind::Entries => Some(1),
        }
    }

    /// The tree size it needs: the end of its leaves. `None` for more than there can be.
    pub fn end(&self) -> Option<u64> {
        let entries = self.index.checked_mul(TILE_LEAVES)?.checked_add(self.width)?;
        entries.checked_mul(self.leaves_of_entry()?)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "{level}/")?,
            TileKind::Entries => f.write_str("entries/")?,
        }
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        f.write_str(&groups.join("/"))?;
        if self.width < TILE_LEAVES { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let path = TilePath::parse("0/x001/x234/067").unwrap();
        assert_eq!(path, TilePath { kind: TileKind::Hashes { level: 0 }, index: 1_234_067, width: 256 });
        let path = TilePath::parse("entries/273.p/112").unwrap();
        assert_eq!(path, TilePath { kind: TileKind::Entries, index: 273, width: 112 });
        assert_eq!(path.end(), Some(70_000));
        assert_eq!(TilePath::parse("2/000.p/1").unwrap().end(), Some(65_536));
    }

    #[test]
    fn another_spelling_is_no_name() {
        for bad in [
            "0",
            "0/",
            "00/000",
            "0/0",
            "0/1000",
            "0/x000/001",
            "0/x1/001",
            "0/001/002",
            "64/000",
            "-1/000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/",
            "entries",
            "data/000",
            "0/+01",
            "0/000/",
            "0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(TilePath::parse(bad), None, "{bad}");
        }
        assert_eq!(TilePath::parse("63/000").unwrap().end(), None);
    }

    proptest! {
        #[test]
        fn names_come_back(level in 0..64_u32, entries: bool, index in 0..1_000_000_000_000_u64, width in 1..=256_u64) {
            let kind = if entries { TileKind::Entries } else { TileKind::Hashes { level } };
            let path = TilePath { kind, index, width };
            prop_assert_eq!(TilePath::parse(&path.to_string()), Some(path));
        }
    }
}
