# A mix like that of a compilation, driven by the shell: $1 small files, each of which is made, passed
# through several programs, and hashed into an object; at the end all objects together. The work is
# region 12.

fail() {
    echo "compile: $1" >&2
    exit 1
}

files=$1
[ "$files" -gt 0 ] 2>/dev/null || fail "the size is a number of files, 1 or more"
work=/tmp/compile.$$
mkdir "$work" && cd "$work" || fail "cannot make $work"

mark begin 12
file=0
while [ "$file" -lt "$files" ]; do
    seq "$file" 3 $((file + 300)) >"$file.c" || fail "seq"
    # Read, translate, sort its symbols, emit.
    sed -e 's/^/value_/' -e 's/$/;/' "$file.c" | awk '{ n += length($0); print n, $0 }' |
        sort -k 2 >"$file.s" || fail "translating $file.c"
    sha256sum <"$file.s" >"$file.o" || fail "hashing $file.s"
    rm "$file.s"
    file=$((file + 1))
done
link=$(cat ./*.o | sha256sum) || fail "linking"
mark end 12

cd / && rm -r "$work"
echo "workload compile $files checksum ${link%% *}"
