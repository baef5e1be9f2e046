//! Values with a unit: durations, shares, counts.

use std::time::Duration;

use super::go::parse_duration;
use super::nearest::{quoted, shown};
use super::node::{Scalar, ScalarKind, Value};
use super::read::{At, Mapping};
use crate::Percent;

/// The smallest share that Istio takes, beside none.
const LEAST_PERCENT: f64 = 0.0001;

impl At<'_> {
    /// A duration as Istio writes it, `1h`, `1m`, `1.5s` or `300ms`; 0 too.
    pub(super) fn duration(&self) -> Option<Duration> {
        let text = match &self.node.value {
            Value::Scalar(Scalar { kind: ScalarKind::Int | ScalarKind::Float, text, .. }) => text.clone(),
            _ => self.non_empty_string()?,
        };
        let duration = parse_duration(&text).filter(|_| self.is_string());
        if duration.is_none() {
            self.error(format!("expected a duration such as `5s` or `500ms`, found {}", quoted(&text)));
        }
        duration
    }

    /// Istio (`ValidateDuration`): "duration must be greater than 1ms", "only durations to ms precision are supported".
    pub(super) fn whole_milliseconds(&self) -> Option<Duration> {
        let duration = self.duration()?;
        if duration < Duration::from_millis(1) || !duration.subsec_nanos().is_multiple_of(1_000_000) {
            self.error(format!(
                "expected a duration of whole milliseconds, at least `1ms`, found {}",
                self.as_written()
            ));
            return None;
        }
        Some(duration)
    }

    /// Whether it is a duration of 0, without reading it.
    pub(super) fn is_zero(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if parse_duration(&scalar.text) == Some(Duration::ZERO))
    }

    /// A number of Istio's type `int32` that is not negative.
    pub(super) fn count(&self) -> Option<u32> {
        const MOST: u32 = i32::MAX.unsigned_abs();
        let number = self.number()?;
        if number > MOST {
            self.error(format!("expected a number up to {MOST}, found {number}"));
            return None;
        }
        Some(number)
    }

    /// A number from 0 to 100.
    pub(super) fn whole_percent(&self) -> Option<u32> {
        let number = self.number()?;
        if number > 100 {
            self.error(format!("expected a number from 0 to 100, found {number}"));
            return None;
        }
        Some(number)
    }

    /// A number that may have a fraction and is not negative.
    pub(super) fn fraction(&self) -> Option<f64> {
        let number = match &self.node.value {
            Value::Scalar(Scalar { kind: ScalarKind::Int | ScalarKind::Float, text, .. }) => text.parse::<f64>().ok(),
            _ => {
                self.wrong_type("a number");
                return None;
            }
        };
        let number = number.filter(|number| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            self.error(format!("expected a number that is not negative, found {}", self.as_written()));
        }
        number
    }

    /// A share from 0 to 100 percent. `least`: Istio (`validatePercentage`) refuses what is "neither 0.0, nor in range
    /// \[0.0001, 100.0\]"; of mirrors it does not.
    pub(super) fn share(&self, least: bool) -> Option<Percent> {
        let number = self.fraction()?;
        if number > 100.0 || (least && number > 0.0 && number < LEAST_PERCENT) {
            let least = if least { ", 0 or at least 0.0001" } else { "" };
            self.error(format!("expected a number from 0 to 100{least}, found {}", self.as_written()));
            return None;
        }
        // Istio cuts off what is less than a millionth. The small term makes up for what a binary fraction is less than
        // the decimal one in the text.
        Some(Percent::from_millionths((number * 10_000.0 + 1e-6) as u32))
    }

    /// `percentage`: `{value: 12.5}`, and 0 without a value.
    pub(super) fn percentage(&self, least: bool) -> Option<Percent> {
        self.mapping(&[], |fields| match fields.field("value") {
            None => Some(Percent::default()),
            Some(value) => value.share(least),
        })
    }

    /// The scalar's text, for a message.
    fn as_written(&self) -> String {
        match &self.node.value {
            Value::Scalar(scalar) => format!("`{}`", shown(&scalar.text)),
            Value::List(_) | Value::Mapping(_) | Value::Refused => "no scalar".to_owned(),
        }
    }
}

impl Mapping<'_> {
    /// A duration of whole milliseconds, at least one.
    pub(super) fn whole_milliseconds(&mut self, name: &'static str) -> Option<Duration> {
        self.field(name)?.whole_milliseconds()
    }

    /// A number of Istio's type `int32`, where 0 is the same as absent.
    pub(super) fn count_above_0(&mut self, name: &'static str) -> Option<u32> {
        self.field(name)?.count().filter(|count| *count > 0)
    }

    /// A boolean that may be absent.
    pub(super) fn optional_boolean(&mut self, name: &'static str) -> Option<bool> {
        self.field(name)?.boolean()
    }
}
