/// Workloads that are about processes.
enum Processes {
    /// `count` processes, one after the other, each of which ends at once.
    static func fork(_ count: Int, _ gate: Gate) -> UInt64 {
        var checksum = Checksum()
        gate.pass()
        for index in 0..<count {
            let child = System.fork()
            if child == 0 { System.exit(index & 127) }
            checksum.add(System.wait(for: child))
        }
        return checksum.value
    }

    /// `count` processes, one after the other, each of which becomes this program anew, as
    /// `workload exit N`, and ends.
    static func exec(_ count: Int, _ gate: Gate) -> UInt64 {
        var checksum = Checksum()
        gate.pass()
        for index in 0..<count {
            let child = System.fork()
            if child == 0 { become(exitStatus: index & 127) }
            checksum.add(System.wait(for: child))
        }
        return checksum.value
    }

    private static func become(exitStatus: Int) -> Never {
        let path: StaticString = "/proc/self/exe"
        let name: StaticString = "workload"
        let command: StaticString = "exit"
        let digit = UInt8(0x30)
        var status = InlineArray<4, UInt8>(repeating: 0)
        status[0] = digit + UInt8(truncatingIfNeeded: exitStatus / 100)
        status[1] = digit + UInt8(truncatingIfNeeded: exitStatus / 10 % 10)
        status[2] = digit + UInt8(truncatingIfNeeded: exitStatus % 10)
        unsafe withUnsafePointer(to: &status) { status in
            // The strings end with zeros, and they live until the call has replaced the program.
            var arguments: InlineArray<4, Int> = unsafe [
                Int(bitPattern: name.utf8Start), Int(bitPattern: command.utf8Start),
                Int(bitPattern: status), 0,
            ]
            unsafe withUnsafePointer(to: &arguments) { arguments in
                // The environment is empty: the arguments' last word.
                _ = unsafe System.call(
                    .execve, Int(bitPattern: path.utf8Start), Int(bitPattern: arguments),
                    Int(bitPattern: arguments) + 24)
            }
        }
        System.exit(1)
    }

    /// A copy-on-write storm: eight times a process is forked that writes to each of `pages` pages,
    /// after which its parent does.
    static func copyOnWrite(_ pages: Int, _ gate: Gate) -> UInt64 {
        let memory = Memory(pages: pages)
        for page in 0..<pages { memory[page * Memory.wordsPerPage] = UInt64(page) }
        var checksum = Checksum()
        gate.pass()
        for round in 0..<8 {
            let child = System.fork()
            if child == 0 { System.exit(Int(write(memory, pages, UInt64(round) + 1) & 127)) }
            checksum.add(System.wait(for: child))
            checksum.add(write(memory, pages, UInt64(round) + 100))
        }
        return checksum.value
    }

    private static func write(_ memory: Memory, _ pages: Int, _ step: UInt64) -> UInt64 {
        var checksum = Checksum()
        for page in 0..<pages {
            let word = page * Memory.wordsPerPage
            memory[word] = memory[word] &+ step
            checksum.add(memory[word])
        }
        return checksum.value
    }

    /// Two processes on one processor that hand a byte to and fro, `count` times.
    static func switchBetween(_ count: Int, _ gate: Gate) -> UInt64 {
        System.pin(to: gate.worker)
        let (there, back) = (Pipe(), Pipe())
        var checksum = Checksum()
        let child = System.fork()
        if child == 0 {
            // Each end that is not used is closed, so that a partner's death is noticed.
            System.call(.close, there.writing)
            System.call(.close, back.reading)
            while let byte = there.read() { back.write(byte &+ 1) }
            System.exit(7)
        }
        System.call(.close, there.reading)
        System.call(.close, back.writing)
        gate.pass()
        for index in 0..<count {
            there.write(UInt8(truncatingIfNeeded: index))
            guard let byte = back.read() else { System.fail(.read, 0) }
            checksum.add(UInt64(byte))
        }
        System.call(.close, there.writing)
        checksum.add(System.wait(for: child))
        return checksum.value
    }

    /// `count` system calls that do nothing.
    static func callSystem(_ count: Int, _ gate: Gate) -> UInt64 {
        let parent = System.call(.getppid)
        var checksum = Checksum()
        gate.pass()
        for _ in 0..<count { checksum.add(System.attempt(.getppid) - parent) }
        return checksum.value
    }
}

/// A pipe: what is written to one end is read at the other.
struct Pipe {
    let reading: Int
    let writing: Int

    init() {
        var ends: UInt64 = 0
        unsafe withUnsafeMutablePointer(to: &ends) {
            _ = System.call(.pipe, Int(bitPattern: $0))
        }
        reading = Int(ends & 0xffff_ffff)
        writing = Int(ends >> 32)
    }

    func write(_ byte: UInt8) {
        var byte = byte
        unsafe withUnsafeMutablePointer(to: &byte) {
            _ = System.call(.write, writing, Int(bitPattern: $0), 1)
        }
    }

    /// Nil where nobody writes any more.
    func read() -> UInt8? {
        var byte: UInt8 = 0
        let count = unsafe withUnsafeMutablePointer(to: &byte) {
            System.call(.read, reading, Int(bitPattern: $0), 1)
        }
        return count == 1 ? byte : nil
    }
}
