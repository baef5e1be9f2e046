//! The request that is asked about, and who sends it.

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use traffic::route::Head;
use traffic::table::Locality;

/// What is asked.
#[derive(Args, Debug, Default)]
pub(crate) struct QuestionArgs {
    /// The namespace of the workload that sends the request
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Its labels
    #[arg(long, value_name = "NAME=VALUE,…", value_delimiter = ',')]
    pub(crate) labels: Vec<String>,
    /// Where it runs: region, zone and part of the zone; the later ones may be missing
    #[arg(long, value_name = "REGION/ZONE/SUBZONE")]
    pub(crate) locality: Option<String>,
    /// A header of the request; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// The method
    #[arg(long, default_value = "GET", value_name = "METHOD")]
    pub(crate) method: String,
    /// The address that the application calls
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// A request, read.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) url: String,
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) locality: Locality,
    pub(crate) method: Method,
    pub(crate) scheme: String,
    /// As the client writes it.
    pub(crate) authority: String,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path_and_query: String,
    pub(crate) headers: HeaderMap,
}

impl Question {
    /// Reads it.
    ///
    /// # Errors
    /// The option that cannot be used, and why.
    pub(crate) fn of(arguments: &QuestionArgs) -> Result<Question, String> {
        let url = arguments.url.clone().ok_or("found no URL, expected one such as http://reviews:9080/")?;
        let expected = |found: &str| format!("found the URL {found:?}, expected one such as http://reviews:9080/");
        let uri: Uri = url.parse().map_err(|_| expected(&url))?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(expected(&url)),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(|| expected(&url))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut headers = HeaderMap::new();
        for header in &arguments.header {
            let (name, value) = read_header(header)?;
            headers.append(name, value);
        }
        // A client may send another Host than it connects to.
        let own_host = headers.remove(http::header::HOST);
        let own_host = own_host.and_then(|value| value.to_str().ok().map(str::to_owned));
        Ok(Question {
            namespace: arguments.namespace.clone(),
            labels: arguments.labels.iter().map(|label| read_label(label)).collect::<Result<_, _>>()?,
            locality: read_locality(arguments.locality.as_deref().unwrap_or_default())?,
            method: arguments
                .method
                .parse()
                .map_err(|_| format!("--method {:?}: no method of HTTP", arguments.method))?,
            scheme,
            authority: own_host.unwrap_or_else(|| authority.as_str().to_owned()),
            host,
            port: authority.port_u16().unwrap_or(default_port),
            path_and_query: path_and_query(&uri),
            headers,
            url,
        })
    }

    /// What routes look at.
    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path_and_query: &self.path_and_query,
            headers: &self.headers,
        }
    }
}

/// As a client sends it: RFC 9110 4.2.3, "an empty path component is equivalent to an absolute path of "/"".
fn path_and_query(uri: &Uri) -> String {
    let written = uri.path_and_query().map_or("", |path| path.as_str());
    if written.starts_with(['/', '*']) { written.to_owned() } else { format!("/{written}") }
}

fn read_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let expected = || format!("--header {text:?}: expected NAME: VALUE");
    let (name, value) = text.split_once(':').ok_or_else(expected)?;
    let name = name.trim().parse().map_err(|_| expected())?;
    Ok((name, value.trim().parse().map_err(|_| expected())?))
}

fn read_label(text: &str) -> Result<(String, String), String> {
    let label = text.trim().split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = label.ok_or_else(|| format!("--labels {text:?}: expected NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn read_locality(text: &str) -> Result<Locality, String> {
    let mut parts = text.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let locality = Locality { region: next(), zone: next(), subzone: next() };
    match parts.next() {
        None => Ok(locality),
        Some(_) => Err(format!("--locality {text:?}: expected REGION/ZONE/SUBZONE")),
    }
}
