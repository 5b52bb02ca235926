//! Just enough of Rust's lexical grammar to look at code without its comments and string contents.
//!
//! A word such as `unsafe` inside a comment, a string or a character literal must not count, and one in code must
//! not be hidden by a quote that is really a lifetime. It is not a parser and must not become one.

/// The source with every comment and the inside of every literal replaced by blanks. Line numbers stay the same.
pub(crate) fn code_only(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    // The last character put out, to know whether `r"` starts a raw string or ends an identifier.
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest, before) {
            length
        } else if first == '\'' {
            character(rest)
        } else {
            out.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (blank, remaining) = rest.split_at(length);
        out.extend(
            blank
                .chars()
                .map(|character| if character == '\n' { '\n' } else { ' ' }),
        );
        before = ' ';
        rest = remaining;
    }
    out
}

/// Length of a block comment, nested ones included.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of a string literal of any kind at the start of the text, prefix included.
fn string(text: &str, before: char) -> Option<usize> {
    let inside_word = before.is_alphanumeric() || before == '_';
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
            let raw = prefix.ends_with('r');
            rest[hashes..].starts_with('"') && (hashes == 0 || raw)
        })
    })?;
    if inside_word && !prefix.is_empty() {
        return None;
    }
    let bytes = text.as_bytes();
    if prefix.ends_with('r') {
        let hashes = bytes[prefix.len()..]
            .iter()
            .take_while(|byte| **byte == b'#')
            .count();
        let close = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        return Some(
            text[start..]
                .find(&close)
                .map_or(text.len(), |at| start + at + close.len()),
        );
    }
    let mut at = prefix.len() + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    Some(text.len())
}

/// Length of a character literal at the start of the text, or of the single quote of a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            // The escaped character itself may be a quote: skip it, then look for the closing one.
            let _ = characters.next();
            characters
                .find(|(_, character)| *character == '\'')
                .map_or(text.len(), |(at, _)| at + 1)
        }
        Some((at, character)) if text[at + character.len_utf8()..].starts_with('\'') => {
            at + character.len_utf8() + 1
        }
        _ => 1,
    }
}

/// The line numbers (from 1) on which a word stands as a whole word.
pub(crate) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    code.lines()
        .enumerate()
        .filter(|(_, line)| has_word(line, word))
        .map(|(index, _)| index + 1)
        .collect()
}

/// True when the text has the word, not as a part of a longer identifier.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part)
            && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

/// The code (see [`code_only`]) without its `#[cfg(test)] mod … { … }` blocks.
pub(crate) fn without_test_modules(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (kept, tail) = rest.split_at(at);
        out.push_str(kept);
        let after = &tail["#[cfg(test)]".len()..];
        let head = after.find(['{', ';']).map_or("", |end| &after[..end]);
        let body = after[head.len()..]
            .starts_with('{')
            .then(|| braces(&after[head.len()..]))
            .flatten();
        match body {
            Some(length) if has_word(head, "mod") => rest = &after[head.len() + length..],
            _ => {
                out.push_str("#[cfg(test)]");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Length of the brace block at the start of the text.
fn braces(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Names of the functions with a `#[test]` or `#[…::test]` attribute.
pub(crate) fn test_functions(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut pending = false;
    for line in code.lines() {
        let line = line.trim();
        if line.starts_with("#[test]") || (line.starts_with("#[") && line.contains("::test")) {
            pending = true;
        }
        if pending && let Some((_, after)) = line.split_once("fn ") {
            names.push(
                after
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
            pending = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_strings_and_characters_are_blanked() {
        let source = "// unsafe\n/* unsafe /* unsafe */ unsafe */ let a = \"unsafe \\\" unsafe\"; let b = r#\"unsafe \" unsafe\"#; b\"unsafe\"; '\\'' ; 'u'";
        let code = code_only(source);
        assert!(!has_word(&code, "unsafe"), "{code}");
        assert!(has_word(&code, "let"));
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn a_lifetime_or_a_quote_hides_nothing() {
        for source in [
            "fn f<'a>(x: &'a u8) { unsafe { g(x) } }",
            "let q = '\"'; unsafe { g() } let r = '\"';",
            "let q = b'\\''; unsafe {}",
            "let bar\"\"; unsafe {}",
        ] {
            assert!(has_word(&code_only(source), "unsafe"), "{source}");
        }
    }

    #[test]
    fn an_identifier_that_contains_the_word_does_not_count() {
        assert!(!has_word("#![forbid(unsafe_code)]", "unsafe"));
        assert!(has_word("#[unsafe(no_mangle)]", "unsafe"));
    }

    #[test]
    fn test_modules_are_taken_out() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { {} }\n}\nfn c() {}\n#[cfg(test)]\nmod far;\n";
        let without = without_test_modules(code);
        assert!(has_word(&without, "a") && has_word(&without, "c") && has_word(&without, "far"));
        assert!(!has_word(&without, "b"));
    }

    #[test]
    fn test_functions_are_found() {
        let code = "#[test]\nfn one() {}\nfn no() {}\n#[tokio::test]\nasync fn two() {}\n";
        assert_eq!(test_functions(code), ["one", "two"]);
    }
}
