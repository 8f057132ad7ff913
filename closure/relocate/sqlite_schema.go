package relocate

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

var (
	sqliteCollation  = regexp.MustCompile(`(?i)\bcollate\s+["'\[` + "`" + `]?(\w+)`)
	sqliteVirtual    = regexp.MustCompile(`(?is)^\s*create\s+virtual\s+table\b.*?\busing\s+(\w+)`)
	sqliteContent    = regexp.MustCompile(`(?i)\bcontent\s*=\s*(?:"([^"]*)"|'([^']*)'|\[([^\]]*)\]|` + "`([^`]*)`" + `|(\w+))`)
	sqliteIndex      = regexp.MustCompile(`(?is)^\s*create\s+(?:unique\s+)?index\b.*?\bon\b[^(]*\((.*)`)
	sqliteGenerated  = regexp.MustCompile(`(?i)\bas\s*\(`)
	sqliteCall       = regexp.MustCompile(`(\w+)["\]` + "`" + `]?\s*\(`)
	sqliteEqual      = regexp.MustCompile(`->>?|<>|[<>]=?\s*-?\d`) // what asks for no order among texts
	sqliteComparison = regexp.MustCompile(`(?i)[<>]|\b(?:like|glob|regexp|match|between)\b`)
)

// sqliteKeeping are the functions that do not tell a text from the rewritten one, or give what is rewritten with it, and
// the words that are none.
var sqliteKeeping = strings.Fields("length octet_length typeof coalesce ifnull nullif iif cast abs round date datetime " +
	"unixepoch json_extract json_type json_valid json_array_length in and or not when then else where as")

// keeps reports whether an expression has for rewritten text what it had before, rewritten.
func (d *sqliteFile) keeps(expression string) bool {
	for _, m := range sqliteCall.FindAllStringSubmatch(expression, -1) {
		name := strings.ToLower(m[1])
		if !slices.Contains(sqliteKeeping, name) && !(name == "lower" && bytes.Equal(d.f.scan.name, bytes.ToLower(d.f.scan.name))) {
			return false
		}
	}
	return !sqliteComparison.MatchString(sqliteEqual.ReplaceAllString(expression, ""))
}

// generated gives the expressions of a table's columns that are made of others.
func generated(sql string) (expressions []string) {
	until := 0
	for _, at := range sqliteGenerated.FindAllStringIndex(sql, -1) {
		if at[0] < until {
			continue // what an expression has in it is looked at with it
		}
		depth := 1
		end := strings.IndexFunc(sql[at[1]:], func(c rune) bool {
			switch c {
			case '(':
				depth++
			case ')':
				depth--
			}
			return depth == 0
		})
		if end < 0 {
			end = len(sql) - at[1]
		}
		until = at[1] + end
		expressions = append(expressions, sql[at[1]:until])
	}
	return expressions
}

// sqliteSchema is what a database's schema says of what may be derived from text.
type sqliteSchema struct {
	trees       []sqliteTree
	collations  string            // one that SQLite does not have itself, or ""
	virtual     map[string]string // virtual tables and those that they index, and by which module
	expressions map[string]string // what tables have that is made of text and not rewritten with it
	unindexed   map[string]uint64 // columns that an index of words leaves out, a bit for each, of tables with its text
	views       bool              // there is an index of words whose text is in a view, of any table
}

// sqliteTree is a b-tree of a table or an index of it.
type sqliteTree struct {
	root  uint32
	table string
}

// derived says what there is that is made of a table's text and does not change with it, or "".
func (s *sqliteSchema) derived(table string) string {
	for at := range len(table) + 1 { // or what such an index keeps beside a table
		if at < len(table) && table[at] != '_' {
			continue
		}
		if module, ok := s.virtual[table[:at]]; ok {
			return "an index of words (" + module + ")"
		}
	}
	if s.views {
		return "an index of words of a view"
	}
	return s.expressions[table]
}

// schema reads the schema.
func (d *sqliteFile) schema() (*sqliteSchema, error) {
	s := &sqliteSchema{trees: []sqliteTree{{root: 1}}, virtual: map[string]string{}, expressions: map[string]string{},
		unindexed: map[string]uint64{}}
	rows := 0
	tables := map[string]bool{}
	err := d.cells(1, 0, func(payload, _ []byte, _ bool) error {
		columns, ok := sqliteRecord(payload)
		rows++
		if !ok || len(columns) < 5 || rows > maxSQLiteTables || len(columns[2].data) > maxSQLiteName ||
			len(columns[4].data) > 2*maxSQLiteSQL { // in UTF-16
			return errMalformed
		}
		// Cells may lie over each other, and what looks at statements is slow.
		if !d.f.budget.inflated(statementCost * int64(len(columns[4].data))) {
			return errBudget
		}
		text := func(i int) string { return string(bytes.ReplaceAll(columns[i].data, []byte{0}, nil)) }
		table, sql := strings.ToLower(text(2)), text(4)
		tables[table] = tables[table] || text(0) == "table"
		if root := columns[3].number(); root > 1 {
			s.trees = append(s.trees, sqliteTree{uint32(root), table})
		}
		for _, m := range sqliteCollation.FindAllStringSubmatch(sql, -1) {
			switch name := strings.ToLower(m[1]); {
			case sqliteCollations[name] == nil:
				s.collations = "the collation " + m[1]
			case !slices.Contains(d.collations, name):
				d.collations = append(d.collations, name)
			}
		}
		if m := sqliteVirtual.FindStringSubmatch(sql); m != nil && !strings.EqualFold(m[1], "rtree") {
			s.virtual[table] = m[1]
			if strings.EqualFold(m[1], "fts5") {
				s.unindexed[table+"_content"] = sqliteUnindexed(sql[len(m[0]):])
			}
			for _, content := range sqliteContent.FindAllStringSubmatch(sql, maxSQLiteOptions) {
				if of := strings.ToLower(strings.Join(content[1:], "")); of != "" {
					s.virtual[of] = m[1]
				}
			}
		}
		if m := sqliteIndex.FindStringSubmatch(sql); m != nil && !d.keeps(m[1]) {
			s.expressions[table] = "an index by an expression"
		}
		for _, expression := range generated(sql) {
			if text(0) == "table" && !d.keeps(expression) {
				s.expressions[table] = "a column that is made of others"
			}
		}
		return nil
	})
	for of := range s.virtual {
		s.views = s.views || !tables[of]
	}
	clear(d.seen)
	d.broken = nil
	return s, err
}

// sqliteUnindexed gives the columns of an index of words (sqlite.org/fts5.html) that are not in it, by their places in the
// table that holds the text, behind the number of the row. Where commas may be something else, it gives none.
func sqliteUnindexed(arguments string) (columns uint64) {
	arguments = strings.Trim(arguments, " \t\r\n()")
	if strings.ContainsAny(arguments, "\"'`[(") {
		return 0
	}
	place := 1
	for argument := range strings.SplitSeq(arguments, ",") {
		words := strings.Fields(argument)
		if len(words) == 0 || strings.Contains(argument, "=") {
			continue
		}
		if len(words) == 2 && strings.EqualFold(words[1], "unindexed") {
			columns |= 1 << place
		}
		place++
	}
	return columns
}
