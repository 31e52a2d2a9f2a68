/// One module of a list like "FILE arguments,FILE ...".
package struct ModuleRequest: Equatable {
    /// The file's name: all before the first space.
    package var path: String
    /// What the kernel gets as the module's string: name and arguments.
    package var string: String

    package init(path: String, string: String) {
        self.path = path
        self.string = string
    }

    /// Takes a list apart. Commas separate modules, ",," stands for a comma inside one, and
    /// spaces before a name do not count. An empty list has no modules.
    package static func parse(_ list: String) -> [ModuleRequest] {
        if list.isEmpty { return [] }
        var strings = [""]
        var rest = list[...]
        while let character = rest.popFirst() {
            if character != "," {
                strings[strings.count - 1].append(character)
            } else if rest.first == "," {
                rest.removeFirst()
                strings[strings.count - 1].append(",")
            } else {
                strings.append("")
            }
        }
        return strings.map { text in
            let string = String(text.drop(while: { $0 == " " }))
            return ModuleRequest(path: String(string.prefix(while: { $0 != " " })), string: string)
        }
    }
}
