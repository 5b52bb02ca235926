//! The ASCII form of an international host name, for the hint in an error message only (RFC 3492).
//!
//! Must not be used to accept names: the full mapping of UTS 46 is not done here, so rcc refuses such names and
//! merely tells the user what to write.

/// Parameters of the Bootstring profile "Punycode" (RFC 3492 section 5).
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const INITIAL_BIAS: u32 = 72;
const INITIAL_N: u32 = 128;

/// Gives the `xn--` form of a name, or none where only the full mapping could tell.
pub(crate) fn ascii_form(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let labels: Option<Vec<String>> = lower.split('.').map(label).collect();
    let joined = labels?.join(".");
    crate::HostName::parse(&joined).is_ok().then_some(joined)
}

fn label(text: &str) -> Option<String> {
    if text.is_ascii() {
        return Some(text.to_owned());
    }
    // Combining marks would need normalisation (NFC) first, other symbols a mapping table.
    if !text.chars().all(|c| c.is_alphanumeric() || c == '-') {
        return None;
    }
    Some(format!("xn--{}", encode(text)?))
}

/// The encoder of RFC 3492 section 6.3; none on overflow.
fn encode(text: &str) -> Option<String> {
    let mut output: String = text.chars().filter(char::is_ascii).collect();
    let total = u32::try_from(text.chars().count()).ok()?;
    let basic = u32::try_from(output.len()).ok()?;
    let mut handled = basic;
    if basic > 0 {
        output.push('-');
    }
    let (mut n, mut delta, mut bias) = (INITIAL_N, 0u32, INITIAL_BIAS);
    while handled < total {
        let next = text.chars().map(u32::from).filter(|&c| c >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for c in text.chars().map(u32::from) {
            if c < n {
                delta = delta.checked_add(1)?;
            }
            if c == n {
                push_number(&mut output, delta, bias);
                bias = adapt(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n = n.checked_add(1)?;
    }
    Some(output)
}

fn push_number(output: &mut String, delta: u32, bias: u32) {
    let mut q = delta;
    let mut k = BASE;
    loop {
        let t = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if q < t {
            break;
        }
        output.push(digit(t + (q - t) % (BASE - t)));
        q = (q - t) / (BASE - t);
        k += BASE;
    }
    output.push(digit(q));
}

fn digit(value: u32) -> char {
    // Values are below 36: 0..25 are letters, 26..35 digits (RFC 3492 section 5).
    char::from_digit((value + 10) % 36, 36).unwrap_or('0')
}

fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_forms() {
        assert_eq!(
            ascii_form("bücher.example").as_deref(),
            Some("xn--bcher-kva.example")
        );
        assert_eq!(
            ascii_form("BÜCHER.example").as_deref(),
            Some("xn--bcher-kva.example")
        );
        assert_eq!(
            ascii_form("faß.example").as_deref(),
            Some("xn--fa-hia.example")
        );
        // RFC 3492 section 7.1 (B), Chinese (simplified).
        assert_eq!(
            encode("他们为什么不说中文").as_deref(),
            Some("ihqwcrb4cv8a8dqg056pqjye")
        );
        // RFC 3492 section 7.1 (L), with ASCII digits and letters inside.
        assert_eq!(
            encode("3年b組金八先生").as_deref(),
            Some("3b-ww4c5e180e575a65lsy2b")
        );
    }

    #[test]
    fn uncertain_forms_give_no_hint() {
        assert_eq!(ascii_form("e\u{301}.example"), None);
        assert_eq!(ascii_form("a\u{200b}b.example"), None);
    }
}
