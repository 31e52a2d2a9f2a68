import Processor
import VirtualMachine

/// A debugger's conversation with a stopped machine: what each command does, and what is answered.
/// Knows nothing of how packets come and go.
///
/// Each processor is a thread, of the number after its own. All stop and go on together; a step of
/// one lasts as long as the others take in their turns, so that a run is the same with and without
/// a debugger.
package struct DebugSession {
    /// What a command leads to.
    package enum Answer: Equatable, Sendable {
        /// Packets for the debugger.
        case replies([[UInt8]])
        /// The machine goes on; the reply comes when it stops.
        case resume
        /// The debugger leaves, and the machine goes on.
        case detach
        /// The debugger ends the machine.
        case kill
    }

    private let target: DebugTarget
    private var points: Set<Command.Point> = []
    /// The processor that registers and memory are asked of.
    private var selected: Int
    /// Why the machine stopped, and which processor stopped it.
    private var stop: (processor: Int, reason: DebugStop)
    private var isPhysical = false
    private var namesSoftwareBreaks = false
    private var namesHardwareBreaks = false
    /// Whether packets are acknowledged.
    package private(set) var acknowledges = true

    package init(_ target: DebugTarget) {
        self.target = target
        selected = target.currentProcessor
        stop = (selected, .interrupted)
    }

    /// How many break- and watchpoints there are at most.
    package static let mostPoints = 1024

    /// The machine has stopped.
    /// - Returns: the reply that the debugger waits for since it had the machine go on.
    package mutating func stopped(_ processor: Int, _ reason: DebugStop) -> [UInt8] {
        stop = (processor, reason)
        selected = processor
        return stopReply
    }

    /// Does what a command asks.
    package mutating func perform(_ command: Command) -> Answer {
        switch command {
        case .supported(let features):
            namesSoftwareBreaks = features.contains("swbreak+")
            namesHardwareBreaks = features.contains("hwbreak+")
            let largest = String(Packet.largest, radix: 16)
            return text(
                "PacketSize=\(largest);qXfer:features:read+;QStartNoAckMode+;vContSupported+;"
                    + "swbreak+;hwbreak+")
        case .stopAcknowledging:
            acknowledges = false
            return .ok
        case .readFeatures(let annex, let offset, let count):
            return features(annex, offset, count)
        case .stopReason: return .replies([stopReply])
        case .readRegisters, .writeRegisters, .readRegister, .writeRegister:
            return performOnRegisters(command)
        case .readMemory(let address, let count): return readMemory(address, count)
        case .writeMemory(let address, let bytes):
            let isDone =
                isPhysical
                ? target.writePhysical(bytes, at: address)
                : target.writeLinear(bytes, at: address, processor: selected)
            return isDone ? .ok : .noMemory
        case .insert(let point):
            guard points.count < Self.mostPoints || points.contains(point) else { return .invalid }
            points.insert(point)
            return .ok
        case .remove(let point):
            points.remove(point)
            return .ok
        case .resumeActions: return text("vCont;c;C;s;S")
        case .resume(let resumption): return resume(resumption)
        case .detach: return .detach
        case .kill: return .kill
        case .readPhysicalMode: return text(isPhysical ? "1" : "0")
        case .setPhysicalMode(let isOn):
            isPhysical = isOn
            return .ok
        case .monitor(let line): return monitor(line)
        case .malformed: return .invalid
        case .unknown: return text("")
        default: return performOnThreads(command)
        }
    }

    // MARK: Threads

    private mutating func performOnThreads(_ command: Command) -> Answer {
        switch command {
        case .selectThread(let choice):
            guard let number = processor(choice) else { return .invalid }
            selected = number
            return .ok
        case .selectForResuming: return .ok
        case .isAlive(let choice): return processor(choice) == nil ? .invalid : .ok
        case .currentThread: return text("QC" + Self.name(selected))
        case .firstThreads:
            let names = (0..<target.processorCount).map { Self.name($0) }
            return text("m" + names.joined(separator: ","))
        case .moreThreads: return text("l")
        case .threadInfo(let choice):
            guard let number = processor(choice) else { return .invalid }
            let line = "processor \(number), \(target.activity(of: number))"
            return .replies([Hexadecimal.text(line.utf8)])
        case .isAttached: return text("1")
        default: return text("")
        }
    }

    private func processor(_ choice: Command.ThreadChoice) -> Int? {
        switch choice {
        case .any, .all: selected
        case .processor(let number):
            0..<target.processorCount ~= number ? number : nil
        }
    }

    private static func name(_ processor: Int) -> String { String(processor + 1, radix: 16) }

    // MARK: Stopping and going on

    private var stopReply: [UInt8] {
        let signal = stop.reason == .interrupted ? "T02" : "T05"
        return Array("\(signal)\(reasonText)thread:\(Self.name(stop.processor));".utf8)
    }

    private var reasonText: String {
        switch stop.reason {
        case .stepped, .interrupted: return ""
        case .instruction(let address):
            let isSoftware = points.contains { $0.kind == .software && $0.address == address }
            if isSoftware { return namesSoftwareBreaks ? "swbreak:;" : "" }
            return namesHardwareBreaks ? "hwbreak:;" : ""
        case .access(let watch):
            let kind =
                switch watch.kind {
                case .write: "watch"
                case .read: "rwatch"
                case .access: "awatch"
                }
            return "\(kind):\(String(watch.address, radix: 16));"
        }
    }

    private mutating func resume(_ resumption: Command.Resumption) -> Answer {
        if let address = resumption.address,
            !target.set(.rip, to: UInt128(address), processor: selected)
        {
            return .invalid
        }
        var step: Int?
        if let choice = resumption.step {
            guard let number = processor(choice) else { return .invalid }
            step = number
        }
        target.setPoints(debugPoints)
        target.prepareToRun(step: step)
        return .resume
    }

    private var debugPoints: DebugPoints {
        var all = DebugPoints()
        for point in points {
            switch point.kind {
            case .software, .hardware: all.instructions.insert(point.address)
            case .write, .read, .access:
                let kind: DebugWatch.Kind =
                    point.kind == .write ? .write : point.kind == .read ? .read : .access
                all.accesses.append(
                    DebugWatch(address: point.address, length: point.length, kind: kind))
            }
        }
        return all
    }

    // MARK: Registers and memory

    private func performOnRegisters(_ command: Command) -> Answer {
        switch command {
        case .readRegister(let number):
            guard RegisterLayout.all.indices ~= number else { return .invalid }
            return .replies([Hexadecimal.text(bytes(RegisterLayout.all[number]))])
        case .writeRegister(let number, let bytes):
            guard RegisterLayout.all.indices ~= number else { return .invalid }
            return write(bytes, to: RegisterLayout.all[number]) ? .ok : .invalid
        case .writeRegisters(let bytes):
            var rest = bytes[...]
            var isDone = true
            for entry in RegisterLayout.all where rest.count >= entry.bytes {
                let part = Array(rest.prefix(entry.bytes))
                rest = rest.dropFirst(entry.bytes)
                // What is as it was need not be settable.
                if part != self.bytes(entry) { isDone = write(part, to: entry) && isDone }
            }
            return isDone ? .ok : .invalid
        default:
            return .replies([Hexadecimal.text(RegisterLayout.all.flatMap { bytes($0) })])
        }
    }

    private func bytes(_ entry: RegisterLayout.Entry) -> [UInt8] {
        let value = entry.register.flatMap { target.value(of: $0, processor: selected) }
        return RegisterLayout.bytes(value ?? 0, of: entry)
    }

    private func write(_ bytes: [UInt8], to entry: RegisterLayout.Entry) -> Bool {
        guard bytes.count == entry.bytes else { return false }
        let value = RegisterLayout.value(bytes)
        guard let register = entry.register else { return value == 0 }
        return target.set(register, to: value, processor: selected)
    }

    private func readMemory(_ address: UInt64, _ count: Int) -> Answer {
        // Two digits a byte.
        let count = min(count, Packet.largest / 2)
        let bytes =
            isPhysical
            ? target.readPhysical(address, count: count)
            : target.readLinear(address, count: count, processor: selected)
        if bytes.isEmpty && count > 0 { return .noMemory }
        return .replies([Hexadecimal.text(bytes)])
    }

    private func features(_ annex: String, _ offset: Int, _ count: Int) -> Answer {
        guard annex == "target.xml" else { return text("E00") }
        let rest = Array(RegisterLayout.description.utf8.dropFirst(offset))
        let part = rest.prefix(min(count, Packet.largest / 2))
        let head = part.count < rest.count ? UInt8(ascii: "m") : UInt8(ascii: "l")
        return .replies([[head] + part])
    }

    /// The text of a monitor command goes as console output.
    private func monitor(_ line: String) -> Answer {
        let bytes = Array(Monitor(target, processor: selected).text(line).utf8)
        let size = Packet.largest / 4
        let packets = stride(from: 0, to: bytes.count, by: size).map { start in
            [UInt8(ascii: "O")]
                + Hexadecimal.text(bytes[start..<min(start + size, bytes.count)])
        }
        return .replies(packets + [Array("OK".utf8)])
    }

    private func text(_ text: String) -> Answer { .replies([Array(text.utf8)]) }
}

extension DebugSession.Answer {
    package static let ok = DebugSession.Answer.replies([Array("OK".utf8)])
    /// EINVAL.
    package static let invalid = DebugSession.Answer.replies([Array("E16".utf8)])
    /// EFAULT.
    package static let noMemory = DebugSession.Answer.replies([Array("E0e".utf8)])
}
