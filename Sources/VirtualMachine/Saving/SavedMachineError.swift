import SystemPackage

/// Why a machine could not be saved, or a saved one not be restored. Each is one line.
public enum SavedMachineError: Error, Equatable, CustomStringConvertible {
    /// The system refused to write the file, or there was no memory for compressing it. What was
    /// there before is still there.
    case cannotWrite(path: String, Errno)
    /// There is something of that name that is no file.
    case noFile(path: String)
    /// The system refused to read the file.
    case cannotRead(path: String, Errno)
    /// The file is something else.
    case noSavedMachine(path: String)
    /// The file is of another version of the format than this program's.
    case otherVersion(path: String, UInt32)
    /// The file is not as it was written.
    case damaged(path: String, String)
    /// The file is as it was written, and says what no machine is.
    case impossible(path: String, String)
    /// The saved machine is not the one that was asked for.
    case otherMachine(path: String, property: String, saved: String, given: String)

    public var description: String {
        switch self {
        case .cannotWrite(let path, let errno): "cannot save the machine in \(path): \(errno)"
        case .noFile(let path):
            "cannot save the machine in \(path): it is no regular file; give the name of one"
        case .cannotRead(let path, let errno): "cannot read \(path): \(errno)"
        case .noSavedMachine(let path): "\(path) is no saved machine"
        case .otherVersion(let path, let version):
            "\(path) is a saved machine of format \(version), and this program reads format "
                + "\(SavedFile.version): restore it with the program that saved it"
        case .damaged(let path, let what): "\(path) is a damaged saved machine: \(what)"
        case .impossible(let path, let what):
            "\(path) is a saved machine that cannot be: \(what)"
        case .otherMachine(let path, let property, let saved, let given):
            "\(path) holds a machine whose \(property) is \(saved), not \(given): leave that out"
        }
    }
}
