//! Calling a Lambda function.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use platform::BoxFuture;
use serde_json::Value;

/// A Lambda function that can be called.
pub trait Invoker: Send + Sync {
    /// Calls it with `event`. The caller sets the time limit and may drop the future.
    fn invoke(&self, event: Value) -> BoxFuture<'_, Result<InvokeOutcome, InvokeError>>;
}

/// What a function did with an event.
#[derive(Clone, Debug, PartialEq)]
pub enum InvokeOutcome {
    /// It returned this.
    Payload(Value),
    /// It failed: raised, returned an error, exited or ran out of its own time.
    FunctionError(FunctionError),
}

/// A function's failure, as Lambda reports it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function failed with {error_type}: {error_message}")]
pub struct FunctionError {
    /// The name of the error's class or type.
    pub error_type: String,
    /// Its message. API Gateway turns an authorizer's `Unauthorized` into 401.
    pub error_message: String,
}

/// The function could not be called at all.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// Nothing answers at the function's address.
    #[error("cannot reach the function at {address}: {source}; is it running?")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What the network says.
        source: std::io::Error,
    },
    /// What answers there does not speak HTTP, or broke off.
    #[error("the emulator at {address} broke off: {detail}")]
    Broken {
        /// Where it is.
        address: String,
        /// What went wrong.
        detail: String,
    },
    /// It answered neither a result nor a function's failure.
    #[error("the emulator at {address} answered {found}, expected a JSON payload of at most 6 MB")]
    BadAnswer {
        /// Where it is.
        address: String,
        /// What it answered.
        found: String,
    },
}

/// A function in this process.
pub struct InProcess(Box<dyn Fn(Value) -> BoxFuture<'static, Result<Value, FunctionError>> + Send + Sync>);

impl InProcess {
    /// A function that is a closure.
    pub fn function<F, Fut>(function: F) -> Arc<Self>
    where
        F: Fn(Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value, FunctionError>> + Send + 'static,
    {
        Arc::new(Self(Box::new(move |event| Box::pin(function(event)))))
    }

    /// A function that is a service from event to answer, such as our Lambda programs. An error becomes a function's
    /// failure with its type's name and its message, as `lambda_runtime` reports it.
    pub fn service<S>(service: S) -> Arc<Self>
    where
        S: tower::Service<Value, Response = Value> + Clone + Send + 'static,
        S::Error: std::fmt::Display + Send,
        S::Future: Send,
    {
        let service = Mutex::new(service);
        Self::function(move |event| {
            let service = service.lock().unwrap_or_else(PoisonError::into_inner).clone();
            async move {
                tower::ServiceExt::oneshot(service, event).await.map_err(|error| FunctionError {
                    error_type: std::any::type_name::<S::Error>().to_owned(),
                    error_message: error.to_string(),
                })
            }
        })
    }
}

impl Invoker for InProcess {
    fn invoke(&self, event: Value) -> BoxFuture<'_, Result<InvokeOutcome, InvokeError>> {
        let answer = (self.0)(event);
        Box::pin(async move {
            Ok(match answer.await {
                Ok(payload) => InvokeOutcome::Payload(payload),
                Err(error) => InvokeOutcome::FunctionError(error),
            })
        })
    }
}

/// Why a call brought no payload.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Function(#[from] FunctionError),
    #[error(transparent)]
    Invoke(#[from] InvokeError),
    #[error("the function did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the function panicked")]
    Panic,
}

/// Calls `invoker` and waits at most `limit`.
///
/// The call runs in a task of its own: a client that goes away does not stop a function on AWS either, and a function
/// that panics in this process is a failed function, not a broken gateway.
pub(super) async fn call(invoker: &Arc<dyn Invoker>, event: Value, limit: Duration) -> Result<Value, Failure> {
    let invoker = Arc::clone(invoker);
    let call = tokio::spawn(async move { tokio::time::timeout(limit, invoker.invoke(event)).await });
    match call.await.map_err(|_| Failure::Panic)?.map_err(|_| Failure::Timeout(limit))?? {
        InvokeOutcome::Payload(payload) => Ok(payload),
        InvokeOutcome::FunctionError(error) => Err(error.into()),
    }
}
