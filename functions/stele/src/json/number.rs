//! Numbers as decimals: which are exactly what a reader with doubles sees (design §5), worked out without
//! doubles where that can be known.

use super::Rule;
use crate::limits::INTEGER_MAX;

/// A decimal number without its noise: `0.<digits> × 10^point`, digits neither beginning nor ending with a zero.
/// Zero has no digits.
pub(crate) struct Decimal {
    pub(crate) negative: bool,
    pub(crate) digits: [u8; Decimal::DIGITS_MAX],
    pub(crate) count: usize,
    pub(crate) point: i64,
    /// There were more digits than any double's shortest form has.
    pub(crate) cut: bool,
}

impl Decimal {
    /// One more than the 17 a double's shortest form can have.
    pub(crate) const DIGITS_MAX: usize = 18;

    /// Of a number by RFC 8259's grammar (or Rust's `{:e}`).
    pub(crate) fn of(text: &str) -> Decimal {
        let mut decimal =
            Decimal { negative: false, digits: [b'0'; Self::DIGITS_MAX], count: 0, point: 0, cut: false };
        let mut fraction = false;
        // Zeros are held back until a digit follows: those at the end do not count.
        let mut zeros = 0_usize;
        let mut exponent = "";
        for (at, c) in text.bytes().enumerate() {
            match c {
                b'-' => decimal.negative = true,
                b'.' => fraction = true,
                b'0'..=b'9' => {
                    let leading = decimal.count == 0 && c == b'0';
                    decimal.point += match (fraction, leading) {
                        (false, false) => 1,
                        (true, true) => -1,
                        (false, true) | (true, false) => 0,
                    };
                    if c == b'0' {
                        zeros += usize::from(!leading);
                        continue;
                    }
                    let place = decimal.count + zeros;
                    match decimal.digits.get_mut(place) {
                        Some(slot) => {
                            *slot = c;
                            decimal.count = place + 1;
                        }
                        None => decimal.cut = true,
                    }
                    zeros = 0;
                }
                _ => {
                    exponent = text.get(at + 1..).unwrap_or_default();
                    break;
                }
            }
        }
        let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
        if !exponent.is_empty() {
            // More than any i64 is more than any double.
            let huge = if exponent.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 };
            let exponent = exponent.parse::<i64>().unwrap_or(huge).clamp(i64::MIN / 4, i64::MAX / 4);
            decimal.point += exponent;
        }
        decimal
    }

    /// Whether it is zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.count == 0 && !self.cut
    }

    /// Whether a double's shortest form is certain to be these digits: any 15 digits survive the way through a
    /// double and back, so two decimals that short never share one.
    pub(crate) fn is_short(&self) -> bool {
        !self.cut && self.count <= 15 && (-290..=290).contains(&self.point)
    }

    fn same(&self, other: &Decimal) -> bool {
        self.digits[..self.count] == other.digits[..other.count]
            && self.point == other.point
            && self.negative == other.negative
    }
}

/// The rule a number breaks, if any.
pub(crate) fn number_rule(text: &str) -> Option<Rule> {
    let decimal = Decimal::of(text);
    if decimal.is_zero() {
        return decimal.negative.then_some(Rule::NegativeZero);
    }
    if !decimal.cut && decimal.count as i64 <= decimal.point {
        // Integral. 2^53 − 1 has 16 digits.
        if decimal.point > 16 {
            return Some(Rule::IntegerTooLarge);
        }
        let digits = decimal.digits[..decimal.count].iter().chain(std::iter::repeat(&b'0'));
        let value = digits.take(decimal.point as usize).fold(0, |n, c| n * 10 + u64::from(c - b'0'));
        return (value > INTEGER_MAX).then_some(Rule::IntegerTooLarge);
    }
    if decimal.is_short() {
        return None;
    }
    if decimal.cut {
        return Some(if decimal.point > 16 { Rule::IntegerTooLarge } else { Rule::NumberNotExact });
    }
    let exact = match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value != 0.0 => decimal.same(&Decimal::of(&format!("{value:e}"))),
        _ => false,
    };
    (!exact).then_some(Rule::NumberNotExact)
}
