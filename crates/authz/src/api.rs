//! The APIs of API Gateway as a deployment template describes them: routes, stages and authorizers.
//!
//! `causeway bundle --template` writes them into a section of its own. They decide nothing: the gate never looks at them.
//! They say which routes there are, so that an answer that covers more than one request can be judged.

use std::fmt;
use std::sync::Arc;

use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use yoke::Yoke;

/// Version of this form. A section of another version is not opened.
pub const VERSION: u32 = 1;

/// APIs in one bundle, at most.
pub const MAX_APIS: usize = 1_000;

/// Routes in one bundle, at most.
pub const MAX_ROUTES: usize = 10_000;

/// The longest section that is opened, in bytes.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// All APIs of the templates.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ApiSet {
    /// [`VERSION`].
    pub version: u32,
    /// The APIs, sorted by [`reference`](Api::reference).
    pub apis: Vec<Api>,
}

/// A text of a template: known, or made by an intrinsic function when the template is deployed.
#[derive(Archive, Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Text {
    /// The text itself.
    Known(String),
    /// The function, such as `Sub causeway-${EnvironmentName}`.
    Opaque(String),
}

/// One API.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Api {
    /// How the template names it: the logical id, or the function that refers to an API of another stack.
    pub reference: Text,
    /// The template.
    pub file: String,
    /// Line of the resource, counted from 1; of the first reference for an API of another stack.
    pub line: u32,
    /// What kind of API it is; absent when the template that has it was not given.
    pub kind: Option<ApiKind>,
    /// Its stages.
    pub stages: Vec<Text>,
    /// Its authorizers.
    pub authorizers: Vec<Authorizer>,
    /// Its routes, as far as the templates have them.
    pub routes: Vec<Route>,
}

/// What kind of API it is.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq))]
pub enum ApiKind {
    /// An HTTP API.
    Http,
    /// A REST API.
    Rest,
    /// A WebSocket API.
    WebSocket,
}

/// An authorizer of an API.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Authorizer {
    /// Its name within the API, or its logical id.
    pub name: String,
    /// Line of its definition, counted from 1.
    pub line: u32,
    /// What kind of authorizer it is.
    pub kind: AuthorizerKind,
    /// The function that it asks.
    pub function: Option<Text>,
    /// What the cache of its answers goes by, in API Gateway's own words, such as `$request.header.Authorization` or
    /// `method.request.header.Authorization`. Without all of them a request is refused, if there are any.
    pub identity_sources: Vec<Text>,
    /// How long its answers are kept, in seconds; absent where the template does not say and API Gateway's own default
    /// counts (REST: 300 s, HTTP: none).
    pub ttl_seconds: Option<u32>,
    /// The payload format, `1.0` or `2.0`, at HTTP APIs.
    pub payload_format: Option<Text>,
    /// Whether it answers `isAuthorized` instead of an IAM policy, at HTTP APIs.
    pub simple_responses: bool,
}

/// What kind of authorizer it is.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq))]
pub enum AuthorizerKind {
    /// A Lambda function that gets the request.
    Request,
    /// A Lambda function that gets one header.
    Token,
    /// API Gateway's own JWT or Cognito check.
    Jwt,
}

/// A route of an API.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Route {
    /// The method in upper case; `ANY` for all of them. Empty for the routes `$default` and `$connect` and their like.
    pub method: String,
    /// Path pattern such as `/reviews/{id}` or `/{proxy+}`; the route key itself where there is no method.
    pub path: String,
    /// What lets a request in.
    pub access: Access,
    /// The template.
    pub file: String,
    /// Line of its definition, counted from 1.
    pub line: u32,
}

/// What lets a request into a route.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Access {
    /// Nothing: it is open to everyone.
    Open,
    /// The authorizer of the API at this index.
    Authorizer(u32),
    /// An authorizer that the templates do not define; the function that refers to it.
    Elsewhere(String),
    /// IAM's own check.
    Iam,
}

/// Why a set is not written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// More than [`MAX_APIS`].
    #[error("found {0} APIs, expected at most {MAX_APIS}")]
    Apis(usize),
    /// More than [`MAX_ROUTES`].
    #[error("found {0} routes, expected at most {MAX_ROUTES}")]
    Routes(usize),
    /// More than [`MAX_BYTES`].
    #[error("the APIs need {0} bytes, expected at most {MAX_BYTES}")]
    Bytes(usize),
    /// A route names an authorizer that is not there, or the set cannot be written at all: a fault of ours.
    #[error("the APIs cannot be written")]
    Internal,
}

/// The bytes are not APIs that we can use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// More than [`MAX_BYTES`], [`MAX_APIS`] or [`MAX_ROUTES`].
    #[error("the APIs are more than a bundle may hold; make it again")]
    TooLarge,
    /// Cut off, damaged, or not APIs at all.
    #[error("the APIs are damaged: {0}; make the bundle again")]
    Damaged(String),
    /// Made by another version.
    #[error("the APIs have the format version {0}, expected {VERSION}; make the bundle again")]
    Version(u32),
}

impl ApiSet {
    /// What [`Apis::open`] opens.
    ///
    /// # Errors
    /// When a bound is passed.
    pub fn write(&self) -> Result<Vec<u8>, WriteError> {
        let routes: usize = self.apis.iter().map(|api| api.routes.len()).sum();
        if self.apis.len() > MAX_APIS {
            return Err(WriteError::Apis(self.apis.len()));
        }
        if routes > MAX_ROUTES {
            return Err(WriteError::Routes(routes));
        }
        let bytes = rkyv::to_bytes::<rancor::Error>(self).map_err(|_| WriteError::Internal)?.into_vec();
        if bytes.len() > MAX_BYTES {
            return Err(WriteError::Bytes(bytes.len()));
        }
        Apis::open(&bytes).map_err(|_| WriteError::Internal)?;
        Ok(bytes)
    }
}

/// Opened APIs, checked once and read where they lie. Cheap to clone.
#[derive(Clone)]
pub struct Apis {
    set: Yoke<&'static ArchivedApiSet, Arc<AlignedVec>>,
}

impl Apis {
    /// Opens what [`ApiSet::write`] made. Every pointer, length, tag, string and index in it is checked here, once.
    ///
    /// # Errors
    /// [`OpenError`] when the bytes are not exactly such APIs of this version.
    pub fn open(bytes: &[u8]) -> Result<Self, OpenError> {
        if bytes.len() > MAX_BYTES {
            return Err(OpenError::TooLarge);
        }
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        let set = Yoke::try_attach_to_cart(Arc::new(aligned), |bytes| {
            rkyv::access::<ArchivedApiSet, rancor::Error>(bytes).map_err(|error| OpenError::Damaged(error.to_string()))
        })?;
        let apis = Self { set };
        let version = apis.set.get().version.to_native();
        if version != VERSION {
            return Err(OpenError::Version(version));
        }
        let routes: usize = apis.iter().map(|api| api.routes.len()).sum();
        if apis.set.get().apis.len() > MAX_APIS || routes > MAX_ROUTES {
            return Err(OpenError::TooLarge);
        }
        for api in apis.iter() {
            let known = |index: u32| usize::try_from(index).is_ok_and(|index| index < api.authorizers.len());
            for route in api.routes.iter() {
                if let ArchivedAccess::Authorizer(index) = &route.access
                    && !known(index.to_native())
                {
                    return Err(OpenError::Damaged(format!("the route {} has an unknown authorizer", route.path)));
                }
            }
        }
        Ok(apis)
    }

    /// The APIs.
    pub fn iter(&self) -> impl Iterator<Item = &ArchivedApi> {
        self.set.get().apis.iter()
    }
}

impl fmt::Debug for Apis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apis").field("apis", &self.set.get().apis.len()).finish()
    }
}

impl Text {
    /// The text, or the function that makes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(text) | Self::Opaque(text) => text,
        }
    }
}

impl ArchivedText {
    /// The text, if it is known before the template is deployed.
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::Known(text) => Some(text.as_str()),
            Self::Opaque(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(routes: usize, authorizer: u32) -> ApiSet {
        let route = Route {
            method: "GET".to_owned(),
            path: "/a".to_owned(),
            access: Access::Authorizer(authorizer),
            file: "t".to_owned(),
            line: 3,
        };
        let own = Authorizer {
            name: "own".to_owned(),
            line: 2,
            kind: AuthorizerKind::Request,
            function: Some(Text::Opaque("GetAtt F.Arn".to_owned())),
            identity_sources: Vec::new(),
            ttl_seconds: Some(0),
            payload_format: Some(Text::Known("2.0".to_owned())),
            simple_responses: true,
        };
        let api = Api {
            reference: Text::Known("Api".to_owned()),
            file: "t".to_owned(),
            line: 1,
            kind: Some(ApiKind::Http),
            stages: vec![Text::Known("$default".to_owned())],
            authorizers: vec![own],
            routes: vec![route; routes],
        };
        ApiSet { version: VERSION, apis: vec![api] }
    }

    #[test]
    fn what_is_written_is_read() {
        let apis = Apis::open(&set(2, 0).write().unwrap()).unwrap();
        let api = apis.iter().next().unwrap();
        assert_eq!((api.reference.known(), api.routes.len()), (Some("Api"), 2));
        assert_eq!(api.authorizers[0].kind, ArchivedAuthorizerKind::Request);
        assert_eq!(api.authorizers[0].function.as_ref().unwrap().known(), None);
    }

    #[test]
    fn bounds() {
        assert!(set(MAX_ROUTES, 0).write().is_ok());
        assert_eq!(set(MAX_ROUTES + 1, 0).write(), Err(WriteError::Routes(MAX_ROUTES + 1)));
        let many = |count| ApiSet { version: VERSION, apis: vec![set(0, 0).apis.remove(0); count] };
        assert!(many(MAX_APIS).write().is_ok());
        assert_eq!(many(MAX_APIS + 1).write(), Err(WriteError::Apis(MAX_APIS + 1)));
        assert_eq!(Apis::open(&vec![0; MAX_BYTES + 1]).unwrap_err(), OpenError::TooLarge);
    }

    #[test]
    fn what_is_damaged_is_not_opened() {
        assert_eq!(set(1, 1).write(), Err(WriteError::Internal));
        let good = set(1, 0).write().unwrap();
        for length in 0..good.len() {
            assert!(Apis::open(&good[..length]).is_err(), "{length}");
        }
        let other = rkyv::to_bytes::<rancor::Error>(&ApiSet { version: VERSION + 1, ..set(1, 0) }).unwrap();
        assert_eq!(Apis::open(&other).unwrap_err(), OpenError::Version(VERSION + 1));
    }
}
