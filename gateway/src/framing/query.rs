//! Parameters of a query that are for the gateway itself.

/// A query without one of its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenParameter {
    /// The value of the parameter, as sent.
    pub value: Result<String, Repeated>,
    /// The other parameters, as sent; `None` if there are none.
    pub rest: Option<String>,
}

/// The parameter occurs more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated;

/// Takes the parameter called `name` out of `query`, in any spelling of its name that a service would decode to it;
/// `None` if there is none.
pub fn take_parameter(query: &str, name: &str) -> Option<TakenParameter> {
    let mut taken = None;
    let mut rest: Option<String> = None;
    for pair in query.split('&') {
        let (sent, value) = pair.split_once('=').unwrap_or((pair, ""));
        if is_name(sent.as_bytes(), name) {
            taken = Some(if taken.is_none() { Ok(value.to_owned()) } else { Err(Repeated) });
            continue;
        }
        match &mut rest {
            None => rest = Some(pair.to_owned()),
            Some(rest) => {
                rest.push('&');
                rest.push_str(pair);
            }
        }
    }
    Some(TakenParameter { value: taken?, rest })
}

/// Whether `sent` is `name` once its percent-encoding is decoded.
fn is_name(mut sent: &[u8], name: &str) -> bool {
    for expected in name.as_bytes() {
        let (byte, rest) = match sent {
            [b'%', high, low, rest @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                (digit(high).zip(digit(low)).and_then(|(high, low)| u8::try_from(high << 4 | low).ok()), rest)
            }
            [byte, rest @ ..] => (Some(*byte), rest),
            [] => return false,
        };
        if byte != Some(*expected) {
            return false;
        }
        sent = rest;
    }
    sent.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_taken_out_and_the_rest_remains_as_it_was_sent() {
        for (query, ticket, rest) in [
            ("ticket=a", "a", None),
            ("ticket=", "", None),
            ("ticket", "", None),
            ("x=1&ticket=a.b-c&y=%20", "a.b-c", Some("x=1&y=%20")),
            ("ticket=a&&x", "a", Some("&x")),
            ("%74icket=a&x=1", "a", Some("x=1")),
            ("%74%69%63%6b%65%74=a", "a", None),
            ("ticket=a=b", "a=b", None),
        ] {
            let expected = TakenParameter { value: Ok(ticket.to_owned()), rest: rest.map(str::to_owned) };
            assert_eq!(take_parameter(query, "ticket"), Some(expected), "{query}");
        }
    }

    #[test]
    fn no_copy_remains_of_a_parameter_that_is_repeated() {
        for query in ["ticket=a&ticket=b", "ticket=a&x=1&%74icket=a", "ticket&ticket&ticket"] {
            let taken = take_parameter(query, "ticket").unwrap();
            assert_eq!(taken.value, Err(Repeated));
            assert!(!taken.rest.unwrap_or_default().contains("icket"));
        }
    }

    #[test]
    fn other_names_are_none() {
        for query in ["", "x=1", "Ticket=a", "tickets=a", "ticke=a", "x=ticket=a", "%7ticket=a", "ticket%00=a", "%74=a"]
        {
            assert_eq!(take_parameter(query, "ticket"), None, "{query}");
        }
    }
}
