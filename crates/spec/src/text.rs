//! Rendering of hostile text inside messages.
//!
//! Must not let a control character through: messages reach terminals and logs.

/// Escapes control and non-ASCII characters and cuts after `limit` characters, with `…` as the sign of it.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == limit {
            shown.push('…');
            break;
        }
        if character.is_ascii() && !character.is_ascii_control() {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_escaped_and_cut() {
        assert_eq!(shorten("a\u{1b}[31mb\nc\0", 40), "a\\u{1b}[31mb\\nc\\u{0}");
        assert_eq!(shorten("\u{202e}evil", 40), "\\u{202e}evil");
        assert_eq!(shorten("abcdef", 3), "abc…");
        assert_eq!(shorten("abc", 3), "abc");
    }
}
