//! Which trace a request belongs to: what one looks for in the logs of every part that it has passed.

use std::borrow::Cow;

/// The headers that say it, in lower case.
pub const HEADERS: [&str; 4] = ["traceparent", "b3", "x-b3-traceid", "x-amzn-trace-id"];

/// The trace ids of a request, as they stand in a decision line. Each is hexadecimal in lower case: 32 digits, or 16
/// for a short one of B3. What cannot be read is left out, so nothing else of a header gets into a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces<'a> {
    /// Of `traceparent`, else of B3, else of `X-Amzn-Trace-Id`: the order of the extension.
    pub id: Option<Cow<'a, str>>,
    /// Of `X-Amzn-Trace-Id`, if it is another one. API Gateway puts that header into every request, and a function that
    /// passes no trace on calls in this one.
    pub x_ray: Option<String>,
}

impl<'a> Traces<'a> {
    /// Reads the headers, whose names are in lower case.
    pub fn of(headers: &'a [(String, String)]) -> Self {
        let x_ray = only(headers, "x-amzn-trace-id").and_then(root);
        let single = || only(headers, "b3").and_then(|value| value.split('-').next());
        let own = only(headers, "traceparent")
            .and_then(w3c)
            .or_else(|| single().filter(|id| is_b3(id)))
            .or_else(|| only(headers, "x-b3-traceid").filter(|id| is_b3(id)));
        match own {
            Some(own) => Self { id: Some(own.into()), x_ray: x_ray.filter(|id| id != own) },
            None => Self { id: x_ray.map(Cow::Owned), x_ray: None },
        }
    }

    /// The same without the headers.
    pub fn into_owned(self) -> Traces<'static> {
        Traces { id: self.id.map(|id| Cow::Owned(id.into_owned())), x_ray: self.x_ray }
    }
}

/// The value of a header that is there once: of two nobody can say which one counts.
fn only<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = headers.iter().filter(|(found, _)| found == name);
    let (_, value) = values.next()?;
    values.next().is_none().then(|| value.trim())
}

/// W3C Trace Context 3.2: `VERSION-TRACE-PARENT-FLAGS`; version ff is forbidden, and 00 has these four parts alone.
fn w3c(value: &str) -> Option<&str> {
    let mut parts = value.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    (known && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2)).then_some(trace)
}

/// X-Ray's `Root=1-TIME-ID`, in W3C's form: without version and dashes.
fn root(value: &str) -> Option<String> {
    let mut fields = value.split(';').filter_map(|field| field.trim().split_once('='));
    let (_, root) = fields.find(|(name, _)| name.eq_ignore_ascii_case("root"))?;
    let (time, id) = root.strip_prefix("1-")?.split_once('-')?;
    let trace = format!("{time}{id}");
    (time.len() == 8 && is_id(&trace, 32)).then_some(trace)
}

fn is_b3(text: &str) -> bool {
    is_id(text, 32) || is_id(text, 16)
}

fn is_id(text: &str, length: usize) -> bool {
    is_hex(text, length) && text.bytes().any(|byte| byte != b'0')
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";
    const ROOT: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    const ROOT_ID: &str = "5759e988bd862e3fe1be46a994272793";

    fn of(pairs: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let headers: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let Traces { id, x_ray } = Traces::of(&headers);
        (id.map(Cow::into_owned), x_ray)
    }

    #[test]
    fn the_trace_is_that_of_the_first_header_that_says_one() {
        let w3c = format!("00-{TRACE}-{PARENT}-01");
        let (single, short) = (format!("{TRACE}-{PARENT}-1"), &TRACE[16..]);
        let longer = format!("cc-{TRACE}-{PARENT}-01-more");
        for (headers, id, x_ray) in [
            (vec![("traceparent", w3c.as_str())], Some(TRACE), None),
            (vec![("traceparent", &longer)], Some(TRACE), None),
            (vec![("b3", &single)], Some(TRACE), None),
            (vec![("x-b3-traceid", short)], Some(short), None),
            (vec![("x-amzn-trace-id", ROOT)], Some(ROOT_ID), None),
            (vec![("x-amzn-trace-id", ROOT), ("traceparent", &w3c)], Some(TRACE), Some(ROOT_ID)),
            (vec![("traceparent", "broken"), ("x-amzn-trace-id", ROOT)], Some(ROOT_ID), None),
            (vec![("x-amzn-trace-id", ROOT), ("x-b3-traceid", ROOT_ID)], Some(ROOT_ID), None),
            (vec![("accept", TRACE)], None, None),
        ] {
            assert_eq!(of(&headers), (id.map(str::to_owned), x_ray.map(str::to_owned)), "{headers:?}");
        }
    }

    #[test]
    fn what_is_no_trace_id_stays_out_of_the_log() {
        let (zeros, upper) = ("0".repeat(32), TRACE.to_uppercase());
        let w3c = |trace: &str| format!("00-{trace}-{PARENT}-01");
        let good = w3c(TRACE);
        for value in [
            w3c(&zeros),
            w3c(&upper),
            w3c("x"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("{good}-more"),
            format!("00-{TRACE}-{PARENT}"),
        ] {
            assert_eq!(of(&[("traceparent", &value)]), (None, None), "{value}");
        }
        assert_eq!(of(&[("traceparent", &good), ("traceparent", &good)]), (None, None));
        for (name, value) in [
            ("b3", "0"),
            ("b3", "eyJhbGciOiJub25lIn0-x"),
            ("x-b3-traceid", &zeros),
            ("x-amzn-trace-id", "Root=1-5759e988-short"),
            ("x-amzn-trace-id", "Root=2-5759e988-bd862e3fe1be46a994272793"),
            ("x-amzn-trace-id", "Self=1-5759e988-bd862e3fe1be46a994272793"),
            ("x-amzn-trace-id", "Root=1-5759e988-bd862e3fe1be46a99427279\u{e9}"),
        ] {
            assert_eq!(of(&[(name, value)]), (None, None), "{name}: {value}");
        }
    }
}
