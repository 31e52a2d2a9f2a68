import Glibc

/// A fixed number of elements that all start as zero bits, and cost host memory only once touched.
///
/// The hypervisor keeps a record for each guest frame and for each shadow entry there may be; an
/// `Array` would touch all of it at power-on, and check for uniqueness at each write.
@safe final class LazyTable<Element: BitwiseCopyable> {
    /// How many elements there are.
    let count: Int
    // Invariant: `count` elements, all initialized (calloc's zeroes), freed in deinit only.
    private let elements: UnsafeMutablePointer<Element>

    /// Makes a table of `count` elements. `Element` must be made of integers only, so that zero
    /// bits are a valid value.
    /// - Returns: nil where the host has no memory for it.
    init?(count: Int) {
        guard
            let memory = unsafe calloc(max(count, 1), MemoryLayout<Element>.stride)
        else { return nil }
        self.count = count
        unsafe elements = memory.bindMemory(to: Element.self, capacity: max(count, 1))
    }

    deinit { unsafe free(elements) }

    /// The element at `index`, which the caller has checked against what it names.
    @inline(__always)
    subscript(index: Int) -> Element {
        get {
            precondition(index >= 0 && index < count, "no such element")
            return unsafe elements[index]
        }
        _modify {
            precondition(index >= 0 && index < count, "no such element")
            yield unsafe &elements[index]
        }
    }

    var indices: Range<Int> { 0..<count }

    /// The element at `index`.
    @inline(__always)
    subscript(index: UInt32) -> Element {
        get { self[Int(index)] }
        _modify { yield &self[Int(index)] }
    }
}

extension LazyTable where Element: Equatable {
    /// Whether any element, of a short table, is `value`.
    func contains(_ value: Element) -> Bool { indices.contains { self[$0] == value } }
}
