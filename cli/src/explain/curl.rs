//! A `curl` command line, read as the request that it would send.

mod options;

use percent_encoding::percent_decode_str;

use options::{IGNORED, IGNORED_WITH_VALUE, SHORT, takes_value};

/// The longest command line that is read, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// What curl would send.
#[derive(Clone, PartialEq)]
pub(crate) struct Curl {
    pub(crate) method: String,
    pub(crate) scheme: String,
    /// With its port, if the URL had one.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

/// Reads a command line.
///
/// # Errors
/// One sentence that quotes no value of the line: values may be credentials.
pub(crate) fn parse(line: &str) -> Result<Curl, String> {
    if line.len() > MAX_BYTES {
        return Err(format!("--curl: more than {MAX_BYTES} bytes"));
    }
    if line.contains("$'") || line.contains("$(") || line.contains('`') {
        return Err("--curl: the line has $'…', $(…) or `…`, which only a shell can read; put the plain values there"
            .to_owned());
    }
    // The reader of words takes a line that goes on behind a space for an empty word.
    let line = line.replace("\\\r\n", " ").replace("\\\n", " ");
    let words = shlex::split(&line).ok_or("--curl: a quote is not closed, or the line ends with a backslash")?;
    let mut words = words.into_iter();
    match words.next().as_deref() {
        Some(first) if first == "curl" || first.ends_with("/curl") => {}
        _ => return Err("--curl: the line does not begin with the word curl".to_owned()),
    }
    let mut read = Read::default();
    while let Some(word) = words.next() {
        read.word(&word, &mut words)?;
    }
    read.finish()
}

/// What is read so far.
#[derive(Default)]
struct Read {
    url: Option<String>,
    method: Option<String>,
    headers: Vec<(String, String)>,
    /// Headers that curl is told not to send.
    without: Vec<String>,
    cookies: Vec<String>,
    data: Vec<String>,
    has_body: bool,
    head: bool,
    get: bool,
    put: bool,
    content_type: Option<&'static str>,
    only_urls: bool,
}

impl Read {
    fn word(&mut self, word: &str, rest: &mut impl Iterator<Item = String>) -> Result<(), String> {
        if self.only_urls || !word.starts_with('-') || word == "-" {
            return self.url(word);
        }
        if word == "--" {
            self.only_urls = true;
            return Ok(());
        }
        if word.starts_with("--") {
            return match word.split_once('=') {
                // curl itself takes no `--name=value`; people write it nevertheless, and curl refuses it.
                Some((name, _)) => {
                    Err(format!("--curl: {} is followed by =, where curl wants a space", option_name(name)))
                }
                None => self.option(word, None, rest),
            };
        }
        // `-sXPOST` is `-s -X POST`.
        let mut letters = word.chars().skip(1);
        while let Some(letter) = letters.next() {
            let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == letter) else {
                return Err(format!("--curl: the option -{} is not known here", letter.escape_default()));
            };
            if takes_value(long) {
                let joined: String = letters.by_ref().collect();
                return self.option(long, (!joined.is_empty()).then_some(joined), rest);
            }
            self.option(long, None, rest)?;
        }
        Ok(())
    }

    fn url(&mut self, word: &str) -> Result<(), String> {
        match self.url.replace(word.to_owned()) {
            None => Ok(()),
            Some(_) => Err("--curl: the line has two URLs, or a value that lacks its quotes".to_owned()),
        }
    }

    fn option(
        &mut self,
        name: &str,
        joined: Option<String>,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), String> {
        if IGNORED.contains(&name) {
            return Ok(());
        }
        if takes_value(name) {
            let value = joined.or_else(|| rest.next()).ok_or_else(|| format!("--curl: {name} lacks its value"))?;
            return if IGNORED_WITH_VALUE.contains(&name) { Ok(()) } else { self.with_value(name, value) };
        }
        match name {
            "--compressed" => self.header("accept-encoding", "deflate, gzip, br, zstd"),
            "--head" => self.head = true,
            "--get" => self.get = true,
            _ => return Err(format!("--curl: the option {} is not known here", option_name(name))),
        }
        Ok(())
    }

    fn with_value(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "--url" => return self.url(&value),
            "--request" => self.method = Some(value),
            "--header" => self.header_line(&value)?,
            "--user-agent" => self.header("user-agent", &value),
            "--referer" => self.header("referer", value.split(';').next().unwrap_or_default()),
            "--oauth2-bearer" => self.header("authorization", &format!("Bearer {value}")),
            "--user" => {
                let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, value);
                self.header("authorization", &format!("Basic {encoded}"));
            }
            "--cookie" if value.contains('=') => self.cookies.push(value),
            "--cookie" => return Err("--curl: --cookie names a file; put its cookies there as NAME=VALUE".to_owned()),
            "--json" => {
                self.has_body = true;
                self.content_type = Some("application/json");
                self.header("accept", "application/json");
            }
            "--form" => {
                self.has_body = true;
                self.content_type = Some("multipart/form-data");
            }
            "--upload-file" => self.put = true,
            _ => {
                self.has_body = true;
                self.data.push(value);
            }
        }
        Ok(())
    }

    /// A header of an option, which a later `-H` overrides.
    fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn header_line(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with('@') {
            return Err("--curl: -H @FILE is not read; put the headers there".to_owned());
        }
        let (name, value) = match (line.split_once(':'), line.strip_suffix(';')) {
            (Some((name, value)), _) => (name, value.trim()),
            // `-H "X-Empty;"` sends the header without a value.
            (None, Some(name)) => (name, ";"),
            (None, None) => return Err("--curl: a header of -H has no colon".to_owned()),
        };
        let name = name.trim().to_ascii_lowercase();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("--curl: a header of -H has a name that is none".to_owned());
        }
        match value {
            // `-H "Accept:"` takes a header out that curl would send.
            "" => self.without.push(name),
            ";" => self.header(&name, ""),
            value => self.header(&name, value),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Curl, String> {
        let url = self.url.take().ok_or("--curl: the line has no URL")?;
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.to_owned()),
            // What curl guesses.
            None => ("http".to_owned(), url.clone()),
        };
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err("--curl: the URL is neither http nor https".to_owned());
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((&rest, ""));
        let authority = match authority.rsplit_once('@') {
            Some((user, host)) => {
                let user = percent_decode_str(user).decode_utf8_lossy().into_owned();
                self.with_value("--user", user)?;
                host
            }
            None => authority,
        };
        if authority.is_empty() {
            return Err("--curl: the URL has no host".to_owned());
        }
        let default = if scheme == "https" { 443 } else { 80 };
        let port = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((_, port)) => port.parse().map_err(|_| "--curl: the port of the URL is not a number".to_owned())?,
            None => default,
        };
        // curl leaves out the port that the scheme has anyway.
        let mut host = authority.strip_suffix(&format!(":{default}")).unwrap_or(authority).to_owned();
        let path = path.split('#').next().unwrap_or_default();
        let mut path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if self.get && !self.data.is_empty() {
            let joint = if path.contains('?') { '&' } else { '?' };
            path = format!("{path}{joint}{}", self.data.join("&"));
        }
        let body = self.has_body && !self.get;
        let method = match self.method.take() {
            Some(method) => method,
            None if self.head => "HEAD".to_owned(),
            None if self.put => "PUT".to_owned(),
            None if body => "POST".to_owned(),
            None => "GET".to_owned(),
        };
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("--curl: the method is none".to_owned());
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in self.headers {
            match name.as_str() {
                "host" => host = value,
                // The last of these counts, as for curl.
                "accept" | "accept-encoding" | "authorization" | "content-type" | "referer" | "user-agent" => {
                    headers.retain(|(other, _)| *other != name);
                    headers.push((name, value));
                }
                _ => headers.push((name, value)),
            }
        }
        if !self.cookies.is_empty() {
            headers.push(("cookie".to_owned(), self.cookies.join("; ")));
        }
        let mut own = |name: &str, value: &str| {
            if !headers.iter().any(|(other, _)| other == name) && !self.without.iter().any(|other| other == name) {
                headers.push((name.to_owned(), value.to_owned()));
            }
        };
        own("accept", "*/*");
        own("user-agent", "curl");
        if body {
            own("content-type", self.content_type.unwrap_or("application/x-www-form-urlencoded"));
        }
        if headers.iter().any(|(_, value)| value.bytes().any(|b| matches!(b, b'\0' | b'\r' | b'\n'))) {
            return Err("--curl: a header has a line break in its value".to_owned());
        }
        Ok(Curl { method, scheme, host, port, path, headers })
    }
}

/// The name of an option as it may be shown: a word that only looks like one could be a part of a credential.
fn option_name(word: &str) -> String {
    let plain =
        word.len() <= 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    if plain { word.to_owned() } else { "that begins with --".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(line: &str) -> String {
        match parse(line) {
            Ok(Curl { method, scheme, host, port, path, headers }) => {
                let headers: Vec<String> = headers
                    .iter()
                    .filter(|(name, value)| {
                        !(name == "accept" && value == "*/*" || name == "user-agent" && value == "curl")
                    })
                    .map(|(name, value)| format!("{name}: {value}"))
                    .collect();
                format!("{method} {scheme} {host} {port} {path} [{}]", headers.join(" | "))
            }
            Err(error) => error,
        }
    }

    #[test]
    fn command_lines_become_requests() {
        let form = "content-type: application/x-www-form-urlencoded";
        let cases = [
            ("curl https://a.example/x?y=1#z", "GET https a.example 443 /x?y=1 []".to_owned()),
            ("curl a.example:8080", "GET http a.example:8080 8080 / []".to_owned()),
            ("/usr/bin/curl 'https://a.example:443?q'", "GET https a.example 443 /?q []".to_owned()),
            ("curl -sSkv -XDELETE https://a/b", "DELETE https a 443 /b []".to_owned()),
            ("curl -I https://a/b", "HEAD https a 443 /b []".to_owned()),
            ("curl -d x=1 https://a/b", format!("POST https a 443 /b [{form}]")),
            ("curl -G -d x=1 -d y=2 https://a/b?z", "GET https a 443 /b?z&x=1&y=2 []".to_owned()),
            (
                "curl --json '{}' https://a/b",
                "POST https a 443 /b [accept: application/json | content-type: application/json]".to_owned(),
            ),
            ("curl -T f https://a/b", "PUT https a 443 /b []".to_owned()),
            (
                "curl https://a/b \\\n  -H 'X-A: 1' \\\n  -H \"x-a: 2\"",
                "GET https a 443 /b [x-a: 1 | x-a: 2]".to_owned(),
            ),
            ("curl -H 'Host: b.example' https://a/", "GET https b.example 443 / []".to_owned()),
            ("curl -H 'X-E;' -b 'a=1' -b 'b=2' https://a/", "GET https a 443 / [x-e:  | cookie: a=1; b=2]".to_owned()),
            ("curl -u user:pass https://a/", "GET https a 443 / [authorization: Basic dXNlcjpwYXNz]".to_owned()),
            ("curl https://user:p%40ss@a/", "GET https a 443 / [authorization: Basic dXNlcjpwQHNz]".to_owned()),
            ("curl --oauth2-bearer T https://a/", "GET https a 443 / [authorization: Bearer T]".to_owned()),
            ("curl --compressed https://a/", "GET https a 443 / [accept-encoding: deflate, gzip, br, zstd]".to_owned()),
            ("curl -o /dev/null -w '%{http_code}' --url https://a/", "GET https a 443 / []".to_owned()),
            ("curl http://[::1]:8080/a", "GET http [::1]:8080 8080 /a []".to_owned()),
        ];
        for (line, expected) in cases {
            assert_eq!(short(line), expected, "{line}");
        }
        assert_eq!(parse("curl -H Accept: -H User-Agent: https://a/").unwrap().headers, []);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_no_value_is_quoted() {
        let cases = [
            ("wget https://a/", "does not begin with the word curl"),
            ("curl --frobnicate https://a/", "the option --frobnicate is not known"),
            ("curl -Z https://a/", "the option -Z is not known"),
            ("curl -H 'authorization: Bearer s3cret", "a quote is not closed"),
            ("curl -H 's3cret' https://a/", "has no colon"),
            ("curl -H authorization: Bearer s3cret https://a/", "two URLs"),
            ("curl --header='authorization: s3cret' https://a/", "--header is followed by ="),
            ("curl --S3cret https://a/", "that begins with --"),
            ("curl -H", "--header lacks its value"),
            ("curl -s", "no URL"),
            ("curl ftp://a/", "neither http nor https"),
            ("curl -H $'a: s3cret' https://a/", "only a shell can read"),
            ("curl -b jar.txt https://a/", "names a file"),
            ("curl https:///a", "no host"),
        ];
        for (line, words) in cases {
            let said = short(line);
            assert!(said.contains(words) && !said.contains("s3cret"), "{line}: {said}");
        }
    }
}
