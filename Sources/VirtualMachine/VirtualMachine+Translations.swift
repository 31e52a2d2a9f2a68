import Processor

extension VirtualMachine {
    /// Has each block that the translator makes code of told from now on. `body` must not run the
    /// machine.
    public func observeTranslations(_ body: @escaping (TranslatedBlock) -> Void) {
        for processor in processors { processor.translationObserver = body }
    }

    /// What the translations of each processor share; empty under the interpreter.
    public var sharedHostCode: [SharedHostCode] { processors.flatMap(\.sharedHostCode) }
}
