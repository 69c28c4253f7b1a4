//! RFC 8785 (JCS): the one way to write a JSON value, so that two programs that agree on the value agree on the
//! bytes. It writes what [`json`](crate::json) has read; which values are allowed is decided there.

mod steps;

pub(crate) use steps::{Steps, Under};

use crate::error::{Code, Error, Result};
use crate::json::{Decimal, Json, Kind, Node, Rule};

/// Appends a value's RFC 8785 form.
pub fn write_canonical(json: &Json<'_>, node: Node, out: &mut Vec<u8>) {
    Writer::default().write(json, node, out);
}

/// The RFC 8785 form of any JSON text whose numbers are finite doubles: numbers are rounded to the nearest double
/// and `-0` is written `0`, as the RFC does and as accepted events need not.
///
/// # Errors
/// As [`Json::parse`], but for those two rules on numbers; a number no double can hold is `validation_failed`.
pub fn canonicalize(text: &[u8]) -> Result<Vec<u8>> {
    let json = Json::read(text)?;
    let refused = json.broken().iter().any(|(node, rule)| match rule {
        Rule::Depth | Rule::Nul | Rule::LoneSurrogate => true,
        Rule::NumberNotExact | Rule::IntegerTooLarge => {
            !json.raw(*node).parse::<f64>().is_ok_and(f64::is_finite)
        }
        Rule::NegativeZero | Rule::ReservedKey => false,
    });
    if refused {
        return Err(Error::new(Code::ValidationFailed, "the JSON has no canonical form")
            .with_problems(json.problems()));
    }
    let mut out = Vec::with_capacity(text.len());
    write_canonical(&json, json.root(), &mut out);
    Ok(out)
}

/// Writes values, keeping its scratch space between them. It recurses: only for texts within the depth limit.
#[derive(Default)]
pub(crate) struct Writer {
    members: Vec<(Node, Node)>,
}

impl Writer {
    #[inline]
    pub(crate) fn write(&mut self, json: &Json<'_>, node: Node, out: &mut Vec<u8>) {
        match json.kind(node) {
            Kind::String => write_str_node(json, node, out),
            _ => self.write_other(json, node, out),
        }
    }

    fn write_other(&mut self, json: &Json<'_>, node: Node, out: &mut Vec<u8>) {
        match json.kind(node) {
            Kind::Null | Kind::True | Kind::False => out.extend_from_slice(json.raw(node).as_bytes()),
            Kind::Number => write_number(json.raw(node), out),
            Kind::String => write_str_node(json, node, out),
            Kind::Array => {
                out.push(b'[');
                for (index, item) in json.items(node).enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.write(json, item, out);
                }
                out.push(b']');
            }
            Kind::Object => {
                let floor = self.members.len();
                if self.members.capacity() == 0 {
                    self.members.reserve(32);
                }
                self.members.extend(json.members(node));
                if let Some(own) = self.members.get_mut(floor..) {
                    own.sort_unstable_by(|a, b| json.key_order(a.0, b.0));
                }
                out.push(b'{');
                for at in floor..self.members.len() {
                    if at > floor {
                        out.push(b',');
                    }
                    let (key, value) = self.members[at];
                    write_str_node(json, key, out);
                    out.push(b':');
                    self.write(json, value, out);
                }
                out.push(b'}');
                self.members.truncate(floor);
            }
        }
    }
}

/// A string that stands in a text without escapes needs none here either: RFC 8259 makes it escape all that
/// RFC 8785 escapes.
#[inline]
fn write_str_node(json: &Json<'_>, node: Node, out: &mut Vec<u8>) {
    match json.is_escaped(node) {
        false => out.extend_from_slice(json.raw(node).as_bytes()),
        true => write_str(json.str(node).unwrap_or_default(), out),
    }
}

/// Appends a string's RFC 8785 form (§3.2.2.2): only `"`, `\` and control characters are escaped.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut copied = 0;
    for (at, c) in text.bytes().enumerate() {
        if !matches!(c, b'"' | b'\\' | 0..0x20) {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[copied..at]);
        copied = at + 1;
        match c {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            c => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(c >> 4)], HEX[usize::from(c & 15)]]);
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[copied..]);
    out.push(b'"');
}

/// Appends a number's RFC 8785 form (§3.2.2.3): ECMAScript's Number::toString of the double nearest to it.
fn write_number(text: &str, out: &mut Vec<u8>) {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.len() <= 15 && digits.bytes().all(|c| c.is_ascii_digit()) && text != "-0" {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    let decimal = Decimal::of(text);
    if decimal.is_short() || decimal.is_zero() {
        write_decimal(&decimal, out);
    } else {
        // The reader let through only what is a finite double.
        let value = text.parse::<f64>().unwrap_or_default();
        write_decimal(&Decimal::of(&format!("{value:e}")), out);
    }
}

/// Appends a double's RFC 8785 form; what is not finite has none, and is written `null` as ECMAScript's JSON does.
pub fn write_f64(value: f64, out: &mut Vec<u8>) {
    match value.is_finite() {
        true => write_decimal(&Decimal::of(&format!("{value:e}")), out),
        false => out.extend_from_slice(b"null"),
    }
}

/// ECMA-262 Number::toString, steps 5 to 12: n is the decimal point's place, k the count of digits.
fn write_decimal(decimal: &Decimal, out: &mut Vec<u8>) {
    let digits = &decimal.digits[..decimal.count];
    let (k, n) = (digits.len() as i64, decimal.point);
    if k == 0 {
        out.push(b'0');
        return;
    }
    if decimal.negative {
        out.push(b'-');
    }
    if k <= n && n <= 21 {
        out.extend_from_slice(digits);
        out.extend(std::iter::repeat_n(b'0', (n - k) as usize));
    } else if 0 < n && n <= 21 {
        out.extend_from_slice(&digits[..n as usize]);
        out.push(b'.');
        out.extend_from_slice(&digits[n as usize..]);
    } else if -6 < n && n <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', -n as usize));
        out.extend_from_slice(digits);
    } else {
        out.push(digits[0]);
        if k > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if n > 0 { b"e+" } else { b"e-" });
        out.extend_from_slice((n - 1).abs().to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(canonicalize(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn doubles_are_laid_out_as_ecmascript_does() {
        for (bits, text) in [
            (0x0000000000000000_u64, "0"),
            (0x8000000000000000, "0"),
            (0x4340000000000001, "9007199254740994"),
            (0x4340000000000002, "9007199254740996"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x444b1ae4d6e2ef4f, "999999999999999900000"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x0000000000000001, "5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x41b3de4355555553, "333333333.3333332"),
        ] {
            let mut out = Vec::new();
            write_f64(f64::from_bits(bits), &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), text);
        }
    }

    #[test]
    fn members_are_ordered_by_utf16() {
        assert_eq!(
            canonical("{\"\u{fb33}\":1,\"\u{1f602}\":2,\"b\":3,\"a\\n\":[ ],\"\":{}}"),
            "{\"\":{},\"a\\n\":[],\"b\":3,\"\u{1f602}\":2,\"\u{fb33}\":1}"
        );
    }

    #[test]
    fn escapes_are_the_fewest() {
        assert_eq!(canonical(r#""\u20ac\u000F\u000a\/\u007f\b""#), "\"€\\u000f\\n/\u{7f}\\b\"");
    }

    proptest! {
        #[test]
        fn any_double_reads_back_as_itself(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let mut out = Vec::new();
            write_f64(value, &mut out);
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap(), value);
            prop_assert_eq!(canonical(&text), text.clone());
            prop_assert_eq!(canonical(&format!("{value:e}")), text);
        }

        #[test]
        fn strings_read_back_as_themselves(text: String) {
            let mut out = Vec::new();
            write_str(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
