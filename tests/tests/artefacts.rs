//! What `make layers` does with the programs that it has built: each would start in Lambda, and the zips are the same
//! whenever and wherever they are made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use e2e::{root, tier, tool};

/// The script, unless what runs it is not there.
fn script(arguments: &[&Path]) -> Result<Option<Output>, String> {
    if !tier::available(&[&tool("python3")]) {
        return Ok(None);
    }
    let mut command = Command::new(tool("python3"));
    command
        .arg(root().join("tests/tools/artefacts"))
        .args(arguments)
        .env("HOME", "/home/somebody")
        .env_remove("CARGO_HOME");
    command.output().map(Some).map_err(|error| error.to_string())
}

fn write(path: &Path, data: &[u8], mode: u32) -> Result<(), String> {
    let folder = path.parent().ok_or("no folder")?;
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    fs::write(path, data).map_err(|error| error.to_string())?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| error.to_string())
}

/// A program without code, that wants a library and versions of its symbols (System V ABI; LSB, symbol versioning).
fn program(library: &str, versions: &[&str], held: &str) -> Vec<u8> {
    let mut strings = vec![0];
    let mut string = |text: &str| {
        let at = strings.len() as u32;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let (needed, file) = (string(library), string("libc.so.6"));
    let versions: Vec<u32> = versions.iter().map(|version| string(version)).collect();
    string(held);
    let mut dynamic = Vec::new();
    for word in [1, u64::from(needed), 0, 0] {
        dynamic.extend_from_slice(&word.to_le_bytes());
    }
    let mut wanted = Vec::new();
    let count = versions.len() as u16;
    wanted.extend([1u16, count].iter().flat_map(|half| half.to_le_bytes()));
    wanted.extend([file, 16, 0].iter().flat_map(|word| word.to_le_bytes()));
    for (index, version) in versions.iter().enumerate() {
        let next: u32 = if index + 1 == versions.len() { 0 } else { 16 };
        wanted.extend([0, 0, *version, next].iter().flat_map(|word| word.to_le_bytes()));
    }
    // Header, the sections' contents, then their table: none, strings, dynamic, versions.
    let contents = [(3, strings), (6, dynamic), (0x6fff_fffe, wanted)];
    let used = if versions.is_empty() { 2 } else { 3 };
    let (mut data, mut table) = (vec![0; 64], vec![0; 64]);
    for (kind, content) in &contents[..used] {
        let (start, length) = (data.len() as u64, content.len() as u64);
        table.extend([0u32, *kind].iter().flat_map(|word| word.to_le_bytes()));
        table.extend([0, 0, start, length].iter().flat_map(|word| word.to_le_bytes()));
        table.extend([1u32, 0].iter().flat_map(|word| word.to_le_bytes()));
        table.extend([0u64, 0].iter().flat_map(|word| word.to_le_bytes()));
        data.extend_from_slice(content);
    }
    data[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    data[18] = 62;
    let start = data.len() as u64;
    data[40..48].copy_from_slice(&start.to_le_bytes());
    data[58..62].copy_from_slice(&[64, 0, used as u8 + 1, 0]);
    data.extend_from_slice(&table);
    data
}

#[test]
fn a_program_that_would_not_start_in_lambda_is_refused() -> Result<(), String> {
    let checkout = format!("{}/extension", root().display());
    let mut cut = program("libc.so.6", &["GLIBC_2.17"], "");
    cut.truncate(cut.len() - 100);
    for (data, expected) in [
        (program("libc.so.6", &["GLIBC_2.2.5", "GLIBC_2.26"], ""), None),
        (program("libm.so.6", &["GCC_3.0", "GLIBC_2.17"], "/cargo/registry/src"), None),
        (
            program("libc.so.6", &["GLIBC_2.26", "GLIBC_2.27"], ""),
            Some("wants GLIBC_2.27, expected at most GLIBC_2.26"),
        ),
        (program("libc.so.6", &["GLIBC_2.100"], ""), Some("wants GLIBC_2.100")),
        (program("libc.so.6", &["GLIBC_3.0"], ""), Some("wants GLIBC_3.0")),
        (program("libc.so.6", &["GLIBC_2.17", "GLIBC_ABI_DT_RELR"], ""), Some("wants GLIBC_ABI_DT_RELR")),
        (program("libssl.so.3", &["GLIBC_2.17"], ""), Some("wants libssl.so.3")),
        (program("libc.so.6", &[], ""), Some("found no versions of symbols")),
        (program("libc.so.6", &["GLIBC_2.17"], &checkout), Some("holds the path")),
        (program("libc.so.6", &["GLIBC_2.17"], "/home/somebody/x"), Some("holds the path /home/somebody/")),
        (cut, Some("Authorizer/bootstrap: ")),
        (b"\x7fELF\x01\x01\x01".to_vec(), Some("found no 64-bit program for x86_64")),
    ] {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        write(&folder.path().join("Authorizer/bootstrap"), &data, 0o755)?;
        let zips = folder.path().join("zips");
        for arguments in [vec![Path::new("check"), folder.path()], vec![Path::new("pack"), folder.path(), &zips]] {
            let Some(output) = script(&arguments)? else { return Ok(()) };
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.success(), expected.is_none(), "{expected:?}: {said}");
            assert!(said.contains(expected.unwrap_or_default()), "{expected:?}: {said}");
        }
        assert_eq!(zips.exists(), expected.is_none(), "{expected:?}");
    }
    Ok(())
}

#[test]
fn this_very_program_names_its_checkout() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let own = std::env::current_exe().and_then(fs::read).map_err(|error| error.to_string())?;
    write(&folder.path().join("KeyIssuer/bootstrap"), &own, 0o755)?;
    let Some(output) = script(&[Path::new("check"), folder.path()])? else { return Ok(()) };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = format!("KeyIssuer/bootstrap: holds the path {}/", root().display());
    assert!(!output.status.success() && said.contains(&expected), "{said}");
    Ok(())
}

#[test]
fn the_same_files_give_the_same_zip() -> Result<(), String> {
    let files = [
        ("extensions/causeway", program("libc.so.6", &["GLIBC_2.17"], ""), true),
        ("causeway-wrapper", b"#!/bin/sh\n".to_vec(), true),
        ("causeway-preload.cjs", b"'use strict';\n".to_vec(), false),
    ];
    let mut made = Vec::new();
    for late in [false, true] {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let layer = folder.path().join("built/ExtensionLayer");
        let mut order: Vec<_> = files.iter().collect();
        if late {
            order.reverse();
        }
        for (name, data, executable) in order {
            // Another umask, another time.
            let mode = if late { 0o700 } else { 0o775 } & if *executable { 0o777 } else { 0o666 };
            write(&layer.join(name), data, mode)?;
            let file = fs::File::open(layer.join(name)).map_err(|error| error.to_string())?;
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(if late { 2_000_000_000 } else { 1_000_000_000 });
            file.set_modified(time).map_err(|error| error.to_string())?;
        }
        let zips = folder.path().join("zips");
        let Some(output) = script(&[Path::new("pack"), &folder.path().join("built"), &zips])? else { return Ok(()) };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let zip = zips.join("ExtensionLayer.zip");
        let data = fs::read(&zip).map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(&format!("ExtensionLayer.zip: {} bytes, sha256 ", data.len())), "{said}");
        let list = "import sys, zipfile\nfor one in zipfile.ZipFile(sys.argv[1]).infolist():\n \
                    print(one.filename, oct(one.external_attr >> 16), one.date_time[0])";
        let listed = Command::new(tool("python3")).args(["-c", list]).arg(&zip).output();
        let listed = listed.map_err(|error| error.to_string())?.stdout;
        assert_eq!(
            String::from_utf8_lossy(&listed),
            "causeway-preload.cjs 0o100644 1980\ncauseway-wrapper 0o100755 1980\nextensions/causeway 0o100755 1980\n"
        );
        made.push(data);
    }
    assert!(made[0] == made[1], "the two zips differ");
    Ok(())
}

#[test]
fn an_artefact_beyond_its_goal_is_named() -> Result<(), String> {
    // What cannot be compressed.
    let mut state = 1u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let noise: Vec<u8> = noise.take(3_000_100).collect();
    for (name, data, missed) in [
        ("Authorizer", &noise[..], true),
        ("Authorizer", &noise[..2_990_000], false),
        ("ExtensionLayer", &noise[..], true),
        ("KeyIssuer", &noise[..], false),
    ] {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        write(&folder.path().join("built").join(name).join("data"), data, 0o644)?;
        let arguments = [Path::new("pack"), &folder.path().join("built"), &folder.path().join("zips")];
        let Some(output) = script(&arguments)? else { return Ok(()) };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(&format!("{name}.zip: ")), "{name}: {said}");
        assert_eq!(said.contains("(goal at most 3,000,000: missed)"), missed, "{name}: {said}");
    }
    Ok(())
}

#[test]
fn where_nothing_was_built_it_says_so() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    for place in [folder.path().to_owned(), folder.path().join("none")] {
        let Some(output) = script(&[Path::new("check"), &place])? else { return Ok(()) };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("`make sam` builds it"), "{said}");
    }
    Ok(())
}
