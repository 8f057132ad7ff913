package relocate

import "bytes"

const (
	classData = "JVM class data archive"
	// classDataMachine is in the text by which a virtual machine knows its own archives, which stands in their head.
	classDataMachine = " VM ("
	// runTimeImage ends the name of the image that a virtual machine has its own classes from.
	runTimeImage = "/lib/modules\x00"
	// longestPath is how long a path may be, its NUL included (PATH_MAX).
	longestPath = 4096
)

// classData keeps the virtual machine from using an archive of classes with store paths in them: strings are found by their hash
// in it. It would notice that jars have another time, but not that classes in its own run-time image, of which it compares
// only the size, are others (JDK src/hotspot/share/cds/filemap.cpp). So the archive becomes one of another build of the virtual
// machine, which does without it and says so, on its standard output.
func (f *fixer) classData(s source) ([]edit, error) {
	edits, err := f.text(s, format{})
	used := err != nil
	for _, e := range edits {
		name := s.data[e.to:min(len(s.data), e.to+longestPath)]
		end := bytes.IndexByte(name, 0) + 1
		used = used || !bytes.HasSuffix(name[:end], []byte(runTimeImage))
	}
	if !used || s.depth > 0 { // it is mapped from a file of its own only
		return nil, nil
	}
	at := bytes.Index(s.data[:min(len(s.data), headLen)], []byte(classDataMachine))
	if at < 0 {
		return nil, blockedBy(HashKeyed, "a class data archive that does not say which virtual machine has made it")
	}
	return []edit{{from: at, to: at + 1, data: []byte("_")}}, nil
}
