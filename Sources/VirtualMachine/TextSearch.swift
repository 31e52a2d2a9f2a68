/// Looks for a text in what the guest prints, a byte at a time (Knuth, Morris and Pratt's method).
final class TextSearch {
    private let text: [UInt8]
    /// For each length of a beginning of the text: the longest shorter beginning that it ends with.
    private let shorter: [Int]
    /// How much of the text the last bytes are.
    private var matched = 0
    /// Whether it has been printed, once or more.
    private(set) var isFound = false

    /// - Parameter text: empty, and it is never found.
    init(_ text: String) {
        let text = Array(text.utf8)
        self.text = text
        var shorter = [0]
        var length = 0
        for byte in text.dropFirst() {
            while length > 0, text[length] != byte { length = shorter[length - 1] }
            if text[length] == byte { length += 1 }
            shorter.append(length)
        }
        self.shorter = shorter
    }

    func add(_ byte: UInt8) {
        guard !text.isEmpty else { return }
        while matched > 0, text[matched] != byte { matched = shorter[matched - 1] }
        guard text[matched] == byte else { return }
        matched += 1
        guard matched == text.count else { return }
        isFound = true
        matched = shorter[matched - 1]
    }
}
