//! What Lambda has to fetch and unpack.

use std::process::Command;

use crate::common::figures::table;
use crate::world::World;

/// What the design asks for, in bytes.
const GOAL: u64 = 3_000_000;

/// Prints the size of a zip file with one program, packed as tightly as the format allows.
const ZIP: &str = "
import io, sys, zipfile
buffer = io.BytesIO()
with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
    packed.write(sys.argv[1], 'bootstrap')
print(len(buffer.getvalue()))
";

pub(crate) fn print(world: &World) -> Result<(), String> {
    let mut rows = Vec::new();
    for (name, program, goal) in [
        ("authorizer", world.authorizer.clone(), true),
        ("extension", e2e::program("extension"), true),
        ("key-issuer", e2e::program("key-issuer"), false),
        ("bare `lambda_runtime`", world.bare.clone(), false),
    ] {
        let length = std::fs::metadata(&program).map_err(|error| format!("{}: {error}", program.display()))?.len();
        let ran = Command::new("python3").args(["-c", ZIP]).arg(&program).output();
        let ran = ran.map_err(|error| format!("python3, which zips: {error}"))?;
        let zipped: u64 = String::from_utf8_lossy(&ran.stdout)
            .trim()
            .parse()
            .map_err(|_| format!("python3, which zips: {}", String::from_utf8_lossy(&ran.stderr)))?;
        let verdict = if zipped <= GOAL { "met" } else { "missed" };
        let verdict = if goal { format!("≤ {:.2}: {verdict}", GOAL as f64 / 1e6) } else { String::new() };
        let megabytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1e6);
        rows.push(vec![name.to_owned(), megabytes(length), megabytes(zipped), verdict]);
    }
    println!("\nSize of the release binaries");
    table(&["program", "MB", "zipped, MB", "goal, MB"], &rows);
    Ok(())
}
