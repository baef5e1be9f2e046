//! `causeway normalize`: what a mesh makes of a request's path before policies and the upstream see it.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use istio::PathNormalization;

use crate::terminal;

pub(crate) const EXAMPLES: &str = "Examples:
  echo '/a/../b' | causeway normalize --mode BASE
  printf '/a//b\\n/a%%2fb\\n' | causeway normalize --mode DECODE_AND_MERGE_SLASHES --json

Reads raw request paths, one a line, and prints for each line the path that policies and the upstream see, or `400`
where the request is refused. The modes are those of meshConfig.pathNormalization.normalization.

Exit status: 0 whatever the paths; 1 they cannot be read; 2 wrong usage.";

/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 64 * 1024;

/// The options of `causeway normalize`.
#[derive(Args, Debug)]
pub(crate) struct Normalize {
    /// The mesh's path normalisation
    #[arg(long, value_name = "MODE")]
    mode: NormalizationName,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// `--mode`, in Istio's words.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
enum NormalizationName {
    /// The path stays as it is
    None,
    /// RFC 3986, section 6.2.2, and backslashes become slashes
    Base,
    /// As BASE, and repeated slashes become one
    MergeSlashes,
    /// As MERGE_SLASHES, after escaped slashes and backslashes were decoded
    DecodeAndMergeSlashes,
}

impl From<NormalizationName> for PathNormalization {
    fn from(name: NormalizationName) -> Self {
        match name {
            NormalizationName::None => Self::None,
            NormalizationName::Base => Self::Base,
            NormalizationName::MergeSlashes => Self::MergeSlashes,
            NormalizationName::DecodeAndMergeSlashes => Self::DecodeAndMergeSlashes,
        }
    }
}

/// Runs `causeway normalize`.
pub(crate) fn run(command: Normalize) -> ExitCode {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    let mut line = Vec::new();
    let mut crlf_said = false;
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) => return ExitCode::SUCCESS,
            Ok(_) => {}
            Err(error) => return terminal::failed(&format!("cannot read the paths: {error}")),
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') && !crlf_said {
            crlf_said = true;
            terminal::note("a line ends with a carriage return, which no path may have: save the file with LF alone");
        }
        // What is not UTF-8 cannot stand in a request of ours.
        let path = std::str::from_utf8(&line).ok().filter(|path| path.len() <= MAX_PATH_BYTES);
        let normal = path.and_then(|path| istio::path::normalize(path, command.mode.into()).ok());
        let said = if command.json {
            serde_json::json!({"path": String::from_utf8_lossy(&line), "normal": normal}).to_string()
        } else {
            normal.unwrap_or_else(|| "400".into()).into()
        };
        match writeln!(output, "{said}").and_then(|()| output.flush()) {
            Ok(()) => {}
            // Whoever read the paths has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                let _ = output.into_parts();
                return ExitCode::SUCCESS;
            }
            Err(error) => return terminal::failed(&format!("cannot write the paths: {error}")),
        }
    }
}
