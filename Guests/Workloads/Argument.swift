/// One of the program's arguments: bytes up to a zero, which live as long as the program.
@safe struct Argument {
    private let start: UnsafePointer<UInt8>

    /// The argument that the kernel has put on the stack; nil behind the last one.
    /// - Parameter stack: what RSP pointed to at the start.
    init?(_ index: Int, on stack: UnsafePointer<Int>) {
        guard unsafe index < stack.pointee,
            let start = unsafe UnsafePointer<UInt8>(bitPattern: stack[1 + index])
        else { return nil }
        unsafe self.start = start
    }

    subscript(index: Int) -> UInt8 { unsafe start[index] }

    static func == (argument: Argument, text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        for index in 0..<count where argument[index] != (unsafe text.utf8Start[index]) {
            return false
        }
        return argument[count] == 0
    }

    /// Whether the last part of a path is this name.
    func isPath(to name: StaticString) -> Bool {
        var end = 0
        while self[end] != 0 { end += 1 }
        let start = end - name.utf8CodeUnitCount
        guard start == 0 || start > 0 && self[start - 1] == 0x2f else { return false }
        for index in 0..<name.utf8CodeUnitCount
        where self[start + index] != (unsafe name.utf8Start[index]) {
            return false
        }
        return true
    }

    /// The decimal number that the argument is, 0…`most`; nil where it is none.
    func number(atMost most: Int) -> Int? {
        var number = 0
        var index = 0
        while self[index] != 0 {
            guard 0x30...0x39 ~= self[index] else { return nil }
            number = number * 10 + Int(self[index] - 0x30)
            if number > most { return nil }
            index += 1
        }
        return index > 0 ? number : nil
    }
}
