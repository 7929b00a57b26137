//! The values of a Parquet file as text: numbers exactly, times as ISO 8601.

use jiff::Timestamp;
use jiff::civil::{Date, Time};

/// What the values of a column mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What they are: numbers, `true` and `false`, text.
    Plain,
    /// Numbers of 32 bits without a sign.
    Unsigned32,
    /// Numbers of 64 bits without a sign.
    Unsigned64,
    /// With so many decimal places.
    Decimal(usize),
    /// Days since 1970.
    Date,
    /// Since midnight.
    Time(Unit),
    /// Since 1970; whether that is an instant, or what a clock somewhere showed.
    Timestamp(Unit, bool),
    /// 16 bytes.
    Uuid,
}

/// What times are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milli,
    Micro,
    Nano,
}

impl Unit {
    fn nanoseconds(self, count: i64) -> i128 {
        let each = match self {
            Self::Milli => 1_000_000,
            Self::Micro => 1_000,
            Self::Nano => 1,
        };
        i128::from(count) * each
    }
}

impl Kind {
    /// A whole number; `None` if it is out of the range of what it means.
    pub(super) fn whole(self, value: i64) -> Option<String> {
        Some(match self {
            Self::Plain | Self::Uuid => value.to_string(),
            Self::Unsigned32 => (value as u32).to_string(),
            Self::Unsigned64 => (value as u64).to_string(),
            Self::Decimal(places) => decimal(i128::from(value), places),
            Self::Date => {
                let days = jiff::Span::new().try_days(value).ok()?;
                Date::constant(1970, 1, 1)
                    .checked_add(days)
                    .ok()?
                    .to_string()
            }
            Self::Time(unit) => {
                let nanoseconds = i64::try_from(unit.nanoseconds(value)).ok()?;
                let since = jiff::Span::new().try_nanoseconds(nanoseconds).ok()?;
                Time::midnight().checked_add(since).ok()?.to_string()
            }
            Self::Timestamp(unit, _) => self.instant(unit.nanoseconds(value))?,
        })
    }

    /// So many nanoseconds since 1970. What a clock somewhere showed has no `Z` at its end.
    pub(super) fn instant(self, nanoseconds: i128) -> Option<String> {
        let text = Timestamp::from_nanosecond(nanoseconds).ok()?.to_string();
        Some(match self {
            Self::Timestamp(_, true) => text,
            _ => text.trim_end_matches('Z').to_owned(),
        })
    }

    /// Bytes: a text, or what they mean.
    pub(super) fn bytes(self, bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
        match self {
            Self::Decimal(places) => {
                let value = signed(bytes).ok_or("is a decimal of more than 16 bytes")?;
                Ok(decimal(value, places).into_bytes())
            }
            Self::Uuid => uuid(bytes).ok_or("is no UUID").map(String::into_bytes),
            _ => Ok(bytes.to_vec()),
        }
    }
}

/// A number that is stored with its highest byte first.
fn signed(bytes: &[u8]) -> Option<i128> {
    let filled = match bytes.first() {
        Some(first) if first & 0x80 != 0 => 0xff,
        _ => 0,
    };
    let mut all = [filled; 16];
    let start = 16_usize.checked_sub(bytes.len())?;
    all[start..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(all))
}

fn decimal(value: i128, places: usize) -> String {
    let digits = value.unsigned_abs().to_string();
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, part) = digits.split_at(digits.len() - places);
    let sign = if value < 0 { "-" } else { "" };
    let point = if places == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{part}")
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let number = u128::from_be_bytes(bytes.try_into().ok()?);
    let digits = format!("{number:032x}");
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    Some(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_exactly_and_times_as_iso_8601() {
        for (kind, value, text) in [
            (Kind::Plain, -3, "-3"),
            (Kind::Unsigned32, -1, "4294967295"),
            (Kind::Unsigned64, -1, "18446744073709551615"),
            (Kind::Decimal(2), 5, "0.05"),
            (Kind::Decimal(2), -12345, "-123.45"),
            (Kind::Decimal(0), 7, "7"),
            (Kind::Date, 0, "1970-01-01"),
            (Kind::Date, 19_782, "2024-02-29"),
            (Kind::Date, -1, "1969-12-31"),
            (Kind::Time(Unit::Milli), 3_661_001, "01:01:01.001"),
            (
                Kind::Timestamp(Unit::Milli, true),
                1,
                "1970-01-01T00:00:00.001Z",
            ),
            (
                Kind::Timestamp(Unit::Micro, false),
                -1,
                "1969-12-31T23:59:59.999999",
            ),
            (Kind::Timestamp(Unit::Nano, true), 0, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(kind.whole(value).as_deref(), Some(text), "{kind:?}");
        }
        assert_eq!(Kind::Date.whole(i64::MAX), None);
        assert_eq!(Kind::Time(Unit::Milli).whole(-1), None);
        assert_eq!(Kind::Timestamp(Unit::Milli, true).whole(i64::MAX), None);
        let text = |kind: Kind, bytes: &[u8]| {
            kind.bytes(bytes)
                .map(|bytes| String::from_utf8(bytes).unwrap())
        };
        assert_eq!(
            text(Kind::Decimal(3), &[0xff, 0xfe]).as_deref(),
            Ok("-0.002")
        );
        assert_eq!(text(Kind::Decimal(3), &[]).as_deref(), Ok("0.000"));
        assert!(text(Kind::Decimal(0), &[1; 17]).is_err());
        let uuid = (0..16).collect::<Vec<u8>>();
        let written = "00010203-0405-0607-0809-0a0b0c0d0e0f";
        assert_eq!(text(Kind::Uuid, &uuid).as_deref(), Ok(written));
    }
}
