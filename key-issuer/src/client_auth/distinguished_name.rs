//! Distinguished names as RFC 4514 writes them, compared with those of certificates.

use x509_parser::asn1_rs::{Any, Tag, ToDer};
use x509_parser::x509::X509Name;

/// The longest text of a name, in bytes.
const MAX_BYTES: usize = 1024;

/// The short names of RFC 4514 §3, and those that certificate tools write besides.
const TYPES: [(&str, &str); 16] = [
    ("CN", "2.5.4.3"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("C", "2.5.4.6"),
    ("STREET", "2.5.4.9"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("SN", "2.5.4.4"),
    ("serialNumber", "2.5.4.5"),
    ("title", "2.5.4.12"),
    ("GN", "2.5.4.42"),
    ("givenName", "2.5.4.42"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("organizationIdentifier", "2.5.4.97"),
];

/// A distinguished name: its relative names from the outermost to the innermost, as certificates have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DistinguishedName(Vec<Vec<Attribute>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    /// The type's object identifier, dotted.
    oid: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    /// `#` and the DER in hexadecimal.
    Der(Vec<u8>),
}

impl DistinguishedName {
    /// Reads a name. One space after a separator is accepted, as many tools write it.
    ///
    /// # Errors
    /// Says what is wrong and at which character.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err(format!("subject_dn has {} bytes, expected 1 to {MAX_BYTES}", text.len()));
        }
        let mut reader = Reader { text: text.as_bytes(), at: 0 };
        let mut names = vec![Vec::new()];
        loop {
            let attribute = reader.attribute().map_err(|why| format!("subject_dn at byte {}: {why}", reader.at))?;
            if let Some(last) = names.last_mut() {
                last.push(attribute);
            }
            match reader.next() {
                None => break,
                Some(b'+') => {}
                // `value` stops at these alone.
                Some(_) => names.push(Vec::new()),
            }
            if reader.peek() == Some(b' ') {
                reader.at += 1;
            }
        }
        // RFC 4514 §2.1: "starting with the last element of the sequence and moving backwards toward the first".
        names.reverse();
        Ok(Self(names))
    }

    /// Whether it is this name: the same relative names in the same order, each with the same attributes in any order,
    /// every value equal. Exact where RFC 5280 §7.1 would fold case: that can only refuse too much.
    pub(crate) fn is_that_of(&self, name: &X509Name<'_>) -> bool {
        let found: Vec<Vec<_>> = name.iter().map(|relative| relative.iter().collect()).collect();
        self.0.len() == found.len()
            && self.0.iter().zip(&found).all(|(own, found)| {
                let equal = |attribute: &Attribute, oid: &str, value: &Any<'_>| {
                    attribute.oid == oid && attribute.value.is_that_of(value)
                };
                own.len() == found.len()
                    && own.iter().all(|a| found.iter().any(|f| equal(a, &f.attr_type().to_id_string(), f.attr_value())))
                    && found.iter().all(|f| own.iter().any(|a| equal(a, &f.attr_type().to_id_string(), f.attr_value())))
            })
    }
}

impl Value {
    fn is_that_of(&self, found: &Any<'_>) -> bool {
        match self {
            Self::Text(text) => decoded(found).is_some_and(|found| found == *text),
            Self::Der(der) => found.to_der_vec().is_ok_and(|found| found == *der),
        }
    }
}

/// The text of a DirectoryString or IA5String (RFC 5280 §4.1.2.4). TeletexString has too many readings to have one.
fn decoded(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            String::from_utf8(value.data.to_vec()).ok()
        }
        Tag::BmpString if value.data.len().is_multiple_of(2) => {
            let units = value.data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        }
        _ => None,
    }
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// `attributeTypeAndValue = attributeType EQUALS attributeValue`
    fn attribute(&mut self) -> Result<Attribute, &'static str> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-') {
            self.at += 1;
        }
        let name = self.text.get(start..self.at).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        if self.next() != Some(b'=') {
            return Err("expected TYPE=VALUE");
        }
        let oid = match TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, oid)) => (*oid).to_owned(),
            None if is_dotted(name) => name.to_owned(),
            None => return Err("the type is neither one of RFC 4514 nor an object identifier"),
        };
        let value = if self.peek() == Some(b'#') { self.hexadecimal()? } else { self.string()? };
        Ok(Attribute { oid, value })
    }

    /// `hexstring = SHARP 1*hexpair`
    fn hexadecimal(&mut self) -> Result<Value, &'static str> {
        self.at += 1;
        let mut der = Vec::new();
        while !matches!(self.peek(), None | Some(b',' | b'+')) {
            der.push(self.pair().ok_or("expected two hexadecimal digits")?);
        }
        if der.is_empty() { Err("expected hexadecimal digits") } else { Ok(Value::Der(der)) }
    }

    fn pair(&mut self) -> Option<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (digit(self.next()?)?, digit(self.next()?)?);
        Some(high << 4 | low)
    }

    /// RFC 4514 §2.4 and §3: what has to be escaped, and how.
    fn string(&mut self) -> Result<Value, &'static str> {
        let mut value = Vec::new();
        // Where the last character stands that may end the value.
        let mut solid = 0;
        if self.peek() == Some(b' ') {
            return Err("a space at the start is not escaped");
        }
        while let Some(byte) = self.peek() {
            match byte {
                b',' | b'+' => break,
                b'"' | b';' | b'<' | b'>' | 0 => return Err("a special character is not escaped"),
                b'\\' => {
                    self.at += 1;
                    match self.peek() {
                        Some(special @ (b' ' | b'"' | b'#' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\')) => {
                            self.at += 1;
                            value.push(special);
                        }
                        _ => value.push(self.pair().ok_or("a backslash escapes nothing")?),
                    }
                    solid = value.len();
                }
                other => {
                    self.at += 1;
                    value.push(other);
                    if other != b' ' {
                        solid = value.len();
                    }
                }
            }
        }
        if solid != value.len() {
            return Err("a space at the end is not escaped");
        }
        String::from_utf8(value).map(Value::Text).map_err(|_| "the value is not UTF-8")
    }
}

/// `numericoid = number 1*( DOT number )`
fn is_dotted(name: &str) -> bool {
    let is_number = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part.len() == 1 || !part.starts_with('0'))
    };
    name.contains('.') && name.split('.').all(is_number)
}

#[cfg(test)]
mod tests;
