/// True bytes changed as a fuzzer's bytes say: each three flip bits, cut the end off or append.
pub(crate) fn changed(bytes: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for change in changes.chunks_exact(3) {
        let &[kind, at, value] = change else {
            continue; // they are three
        };
        // So that any byte of what is longer than 256 can be reached.
        let at = usize::from(kind / 4) * 256 + usize::from(at);
        match kind % 4 {
            0 => changed.truncate(at),
            1 => changed.push(value),
            _ => changed
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= value),
        }
    }
    changed
}
