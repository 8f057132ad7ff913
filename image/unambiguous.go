package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// maxDepth bounds how deep a document nests. Those of images have 6 levels.
const maxDepth = 64

// names are those that a value of a type has in JSON, as Go's encoding/json reads it.
type names struct {
	known  map[string]*names // of an object whose names are given, with those of their values
	folded map[string]string // the known names, by what encoding/json takes for the same
	free   bool              // an object whose names are anybody's choice: labels, volumes
	values *names            // of such an object's values
}

// namesOf are those of a type. Of a type that reads itself, and of values that are taken as they are, there are none.
func namesOf(t reflect.Type) *names {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	switch {
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		return nil
	case t.Kind() == reflect.Map:
		return &names{free: true, values: namesOf(t.Elem())}
	case t.Kind() != reflect.Struct:
		return nil
	}
	return fieldsOf(t)
}

// fieldsOf are the names of a struct's fields.
func fieldsOf(t reflect.Type) *names {
	n := &names{known: map[string]*names{}, folded: map[string]string{}}
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous || !field.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = field.Name
		}
		n.known[name], n.folded[folded(name)] = namesOf(field.Type), name
	}
	return n
}

// object is an object or array of a JSON document that is being read.
type object struct {
	names *names          // those that it may have, nil for any
	there map[string]bool // the names that were there; nil for an array
	name  string          // the last of them
	value bool            // the value of name comes next
}

// unambiguous reports what readers of a JSON document take in different ways. Of two names in an object they take the first,
// the last, or parts of both; some, Go's among them, take "env" for "Env". It gives the names that are none of known's, to
// which another reader may give a meaning.
func unambiguous(document []byte, known *names) (unknown []string, err error) {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	open := []*object{{names: known}}
	for whole := false; ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return unknown, nil
		}
		if err != nil {
			return nil, err
		}
		if whole && len(open) == 1 {
			return nil, errors.New("it goes on after its end")
		}
		whole = true
		in := open[len(open)-1]
		switch name, _ := token.(string); {
		case token == json.Delim('}'), token == json.Delim(']'):
			open = open[:len(open)-1]
		case in.there == nil || in.value:
			in.value = false
			next := in.next(token == json.Delim('{'))
			if token != json.Delim('{') && token != json.Delim('[') {
				continue
			}
			if open = append(open, next); len(open) > maxDepth {
				return nil, fmt.Errorf("it nests deeper than %d levels", maxDepth)
			}
		default:
			if err := in.add(name); err != nil {
				return nil, err
			}
			if in.names.unknown(name) {
				unknown = append(unknown, name)
			}
		}
	}
}

// next is an object or array that is the value at hand.
func (o *object) next(isObject bool) *object {
	next := &object{names: o.names}
	if o.there != nil {
		next.names = o.names.of(o.name)
	}
	if isObject {
		next.there = map[string]bool{}
	}
	return next
}

// add takes the next name of an object.
func (o *object) add(name string) error {
	free := o.names != nil && o.names.free
	if o.there[name] || !free && o.there[folded(name)] {
		return fmt.Errorf("it has %.80q twice in one object", name)
	}
	if o.names != nil {
		if exact, ok := o.names.folded[folded(name)]; ok && exact != name {
			return fmt.Errorf("it has %.80q, which is %q to some tools only", name, exact)
		}
	}
	if !free {
		o.there[folded(name)] = true
	}
	o.there[name], o.name, o.value = true, name, true
	return nil
}

// unknown reports whether an object has no such name.
func (n *names) unknown(name string) bool {
	if n == nil || n.free {
		return false
	}
	_, ok := n.known[name]
	return !ok
}

// of are the names of a value in an object.
func (n *names) of(name string) *names {
	switch {
	case n == nil:
		return nil
	case n.free:
		return n.values
	}
	return n.known[name]
}

// folded is one text for all that encoding/json takes for the same name.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for each := unicode.SimpleFold(r); each != r; each = unicode.SimpleFold(each) {
			least = min(least, each)
		}
		return least
	}, name)
}

// sortedNames are names, each once, in order.
func sortedNames(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}
