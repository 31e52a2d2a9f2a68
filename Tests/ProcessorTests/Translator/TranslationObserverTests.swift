import MachineMemory
import Processor
import Testing
import X86

@Suite(.enabled(if: Engine.translatorLack == nil)) struct TranslationObserverTests {
    @Test(
        "each block that is translated is told with its guest code, its host code and their parts")
    func blocks() throws {
        let machine = try BareMachine(.translator)
        var blocks: [TranslatedBlock] = []
        machine.processor.translationObserver = { blocks.append($0) }
        // inc rax; add rbx, [rsi]; dec rcx; jnz to the start
        let loop: [UInt8] = [
            0x48, 0xff, 0xc0, 0x48, 0x03, 0x1e, 0x48, 0xff, 0xc9, 0x75, 0xf5,
        ]
        machine.store(loop + [0xeb, 0xfe], at: BareMachine.code)
        machine.processor[.rsi] = BareMachine.data
        machine.processor[.rcx] = 100
        machine.processor.jump(to: BareMachine.code)
        _ = machine.processor.run(until: 500)

        let block = try #require(blocks.first { $0.address.rawValue == BareMachine.code })
        #expect(block.guestCode == loop)
        #expect(!block.isUser)
        #expect(block.processor == 0)
        #expect(block.parts.map(\.guestOffset) == [0, 3, 6, 9])
        let offsets = block.parts.map(\.hostOffset) + [block.hostCode.count]
        #expect(offsets == offsets.sorted() && offsets[0] > 0)
        // INC RAX is the host's own; the load's miss is cold.
        #expect(
            Array(block.hostCode[block.parts[0].hostOffset...].prefix(3)) == [0x48, 0xff, 0xc0])
        #expect(!block.coldCode.isEmpty)
        // What all translations share lies before them, part behind part.
        let shared = machine.processor.sharedHostCode
        #expect(shared.map(\.name).contains("enter"))
        #expect(
            zip(shared, shared.dropFirst()).allSatisfy {
                $0.addresses.upperBound == $1.addresses.lowerBound
            })
        #expect(shared.allSatisfy { $0.addresses.upperBound <= block.hostAddress })
        // Nothing is told twice.
        #expect(Set(blocks.map(\.hostAddress)).count == blocks.count)
    }

    @Test("nothing is told, and nothing shared, under the interpreter")
    func interpreter() throws {
        let machine = try BareMachine(.interpreter)
        machine.processor.translationObserver = { _ in Issue.record("a block was told") }
        machine.store([0xeb, 0xfe], at: BareMachine.code)
        machine.processor.jump(to: BareMachine.code)
        _ = machine.processor.run(until: 500)
        #expect(machine.processor.retired == 500)
        #expect(machine.processor.sharedHostCode.isEmpty)
    }
}
