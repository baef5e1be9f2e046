//! `application/x-www-form-urlencoded`, read strictly: what is not well-formed is refused, never repaired.

/// The most parameters of one form.
pub const MAX_PARAMETERS: usize = 64;

/// Parameters that may be sent more than once: `resource` (RFC 8707 §2) and `audience` (RFC 8693 §2.1).
const REPEATABLE: [&str; 2] = ["resource", "audience"];

/// Why a form is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// More than [`MAX_PARAMETERS`].
    #[error("the form has more than 64 parameters")]
    TooManyParameters,
    /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the form is not well-formed: percent-encoding or UTF-8 is broken")]
    Encoding,
    /// RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once".
    #[error("a parameter is sent more than once")]
    Repeated,
}

/// The parameters of a form, in order. `Debug` shows how many: a value, or a name by mistake, may be a client's secret.
#[derive(Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Form({})", self.0.len())
    }
}

impl Form {
    /// Reads a form.
    ///
    /// # Errors
    /// See [`FormError`]. Sent twice is sent twice, even when one of the two is empty.
    pub fn parse(body: &[u8]) -> Result<Self, FormError> {
        let text = std::str::from_utf8(body).map_err(|_| FormError::Encoding)?;
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return Err(FormError::TooManyParameters);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or(FormError::Encoding)?;
            let value = decode(value).ok_or(FormError::Encoding)?;
            if parameters.iter().any(|(n, _)| *n == name) && !REPEATABLE.contains(&name.as_str()) {
                return Err(FormError::Repeated);
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The parameter's value. RFC 6749 §3.2: "Parameters sent without a value MUST be treated as if they were
    /// omitted from the request"; unknown parameters are simply never asked for.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, value)| n == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter that may repeat.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

/// Undoes form encoding: `+` is a space, `%` starts two hexadecimal digits, the result is UTF-8. `None` when it is not.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn well_formed_forms() {
        let form = Form::parse(
            b"grant_type=client_credentials&scope=a+b%20c&&empty=&flag&resource=x&resource=y&%6eame=%C3%A9",
        )
        .unwrap();
        assert_eq!(form.get("grant_type"), Some("client_credentials"));
        assert_eq!(form.get("scope"), Some("a b c"));
        assert_eq!(form.get("empty"), None);
        assert_eq!(form.get("flag"), None);
        assert_eq!(form.get("absent"), None);
        assert_eq!(form.get("name"), Some("é"));
        assert_eq!(form.all("resource").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(Form::parse(b"").unwrap(), Form::default());
    }

    #[test]
    fn debug_shows_no_value() {
        let form = Form::parse(b"client_secret=hunter2&scope=a").unwrap();
        assert_eq!(format!("{form:?}"), "Form(2)");
    }

    #[test]
    fn refused_forms() {
        for (body, expected) in [
            (&b"a=1&a=2"[..], FormError::Repeated),
            (b"a=1&%61=2", FormError::Repeated),
            (b"scope=&scope=x", FormError::Repeated),
            (b"unknown=1&unknown=1", FormError::Repeated),
            (b"a=%", FormError::Encoding),
            (b"a=%4", FormError::Encoding),
            (b"a=%zz", FormError::Encoding),
            (b"a=%+1", FormError::Encoding),
            (b"a=%FF", FormError::Encoding),
            (b"a=\xff", FormError::Encoding),
        ] {
            assert_eq!(Form::parse(body), Err(expected), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn parameters_at_the_limit_and_one_past_it() {
        let form = |n: usize| (0..n).map(|i| format!("p{i}=1")).collect::<Vec<_>>().join("&");
        assert!(Form::parse(form(MAX_PARAMETERS).as_bytes()).is_ok());
        assert_eq!(Form::parse(form(MAX_PARAMETERS + 1).as_bytes()), Err(FormError::TooManyParameters));
    }

    /// Another implementation's encoder (that of the `application/x-www-form-urlencoded` definition), by hand.
    fn encode(text: &str) -> String {
        text.bytes()
            .map(|b| match b {
                b' ' => "+".to_owned(),
                b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Form::parse(&body);
        }

        #[test]
        fn form_like_text_does_not_panic_and_stays_bounded(body in "[a-c=&%+0-9A-F]{0,200}") {
            if let Ok(form) = Form::parse(body.as_bytes()) {
                prop_assert!(form.0.len() <= MAX_PARAMETERS);
            }
        }

        #[test]
        fn what_is_encoded_comes_back(name in "\\PC{1,20}", value in "\\PC{1,40}") {
            let form = Form::parse(format!("{}={}", encode(&name), encode(&value)).as_bytes()).unwrap();
            prop_assert_eq!(form.get(&name), Some(value.as_str()));
        }
    }
}
