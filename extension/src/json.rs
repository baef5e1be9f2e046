//! One JSON object on one line, written field by field.
//!
//! A line of the access log is written for each request, and most of it never changes: the names. A serialiser looks
//! through them anew each time for what has to be escaped, which costs more than all of the rest.

/// What a line has room for before it has to grow.
const USUAL_LINE: usize = 1_024;

/// An object that is being written.
pub(crate) struct Json(Vec<u8>);

impl Json {
    /// Begins with `event`, which like all names has nothing that must be escaped.
    pub(crate) fn new(event: &'static str) -> Json {
        let mut json = Json(Vec::with_capacity(USUAL_LINE));
        json.0.extend_from_slice(b"{\"event\":\"");
        json.0.extend_from_slice(event.as_bytes());
        json.0.push(b'"');
        json
    }

    /// A field with any text.
    pub(crate) fn text(&mut self, name: &'static str, value: &str) {
        self.name(name);
        // RFC 8259 7: "characters that MUST be escaped: quotation mark, reverse solidus, and the control characters
        // (U+0000 through U+001F)". Without a way out in between, the look at a byte is one step for many.
        let plain = value.bytes().fold(true, |plain, byte| plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\'));
        if plain {
            self.0.push(b'"');
            self.0.extend_from_slice(value.as_bytes());
            self.0.push(b'"');
        } else {
            let escaped = serde_json::Value::from(value).to_string();
            self.0.extend_from_slice(escaped.as_bytes());
        }
    }

    /// A field with a text that has nothing to be escaped by its kind: names of ours, addresses, times, HTTP's tokens. It
    /// is not looked through.
    pub(crate) fn plain(&mut self, name: &'static str, value: &str) {
        debug_assert!(value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\'), "{value:?}");
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// The same where there is one.
    pub(crate) fn plain_if(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.plain(name, value);
        }
    }

    /// The same where there is one.
    pub(crate) fn text_if(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A field with a number.
    pub(crate) fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        // Most numbers of a line are small.
        if value < 10 {
            return self.0.push(b'0' + value as u8);
        }
        // The most digits that there are.
        let mut digits = [b'0'; 20];
        let (mut left, mut first) = (value, digits.len());
        while left > 0 {
            first -= 1;
            digits[first] += (left % 10) as u8;
            left /= 10;
        }
        self.0.extend_from_slice(&digits[first..]);
    }

    /// The same where there is one.
    pub(crate) fn number_if(&mut self, name: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(name, value);
        }
    }

    /// The line, without its end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    fn name(&mut self, name: &'static str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_text_comes_back_as_it_was() {
        let mut json = Json::new("egress");
        let all: String = (0..0x80).map(char::from).collect();
        let texts = ["", "plain", "\"", "\\", "two\nlines", "\u{1f}", "\u{7f}", "é\u{2028}🦀", "</script>", &all];
        for value in texts {
            json.text("text", value);
            let read: serde_json::Value = serde_json::from_slice(&Json(json.0.clone()).end()).unwrap();
            assert_eq!(read["text"], value);
        }
    }

    #[test]
    fn fields_stand_in_their_order() {
        let mut json = Json::new("egress");
        json.text("path", "/");
        json.text_if("detail", None);
        json.text_if("peer", Some("spiffe://x"));
        json.number("status", 200);
        json.number("none", 0);
        json.number("ten", 10);
        json.number_if("time", None);
        json.number_if("most", Some(u64::MAX));
        let line = String::from_utf8(json.end()).unwrap();
        assert_eq!(
            line,
            r#"{"event":"egress","path":"/","peer":"spiffe://x","status":200,"none":0,"ten":10,"most":18446744073709551615}"#
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["most"], json!(u64::MAX));
    }
}
