/// Whether a byte may stand in a text file: printable ASCII, a space, or the end of a line.
pub(super) fn is_text(byte: &u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}
