package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
)

const (
	// maxFile is far more than a file of MaxAccounts accounts has.
	maxFile = 1 << 20
	// maxProblems are more than anybody mends at once; a file of another kind may
	// have 100,000.
	maxProblems = 1000
)

// LoadFile reads the file of the accounts, and gives them sorted by name. flags
// gives the defaults, and the directory of the ledgers. The error holds all problems
// (Unwrap() []error), a line each, sorted by the line of the file that they are in.
// Nothing but the file is read: not whether there are keys where it says.
func LoadFile(path string, flags Config) ([]Account, error) {
	text, err := ReadFile(path)
	if err != nil {
		return nil, errors.Join(err)
	}
	return ParseFile(path, text, flags)
}

// ReadFile gives the text of the file of the accounts. It takes no more time than
// the file system: opening a named pipe could last for ever, so only a regular file
// is read. Links are followed.
func ReadFile(path string) ([]byte, error) {
	wrong := func(err error) error {
		var cause *os.PathError // its path is said already
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("--config.file %s: %w", path, WithUser(err))
	}
	if err := wantRegular(os.Stat(path)); err != nil {
		return nil, wrong(err)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the path is the user's own
	if err != nil {
		return nil, wrong(err)
	}
	defer func() { _ = file.Close() }()              // only read
	if err := wantRegular(file.Stat()); err != nil { // it may have changed since
		return nil, wrong(err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, wrong(err)
	}
	return text, nil
}

func wantRegular(info os.FileInfo, err error) error {
	if err == nil && !info.Mode().IsRegular() {
		return errors.New("it is a directory, a device, a socket or a named pipe, not a file of accounts")
	}
	return err
}

// ParseFile is LoadFile for a text that was read before; path says where.
func ParseFile(path string, text []byte, flags Config) ([]Account, error) {
	f := fileParser{dir: filepath.Dir(path), flags: flags, fields: fields(), name: NewRules().AccountName, lines: make(map[string]int)}
	if len(text) > maxFile {
		f.add(1, "the file is larger than 1 MiB")
	} else if root := f.parse(text); root != nil {
		f.document(root)
		f.validate()
	}
	if len(f.problems) == 0 {
		return f.accounts, nil
	}
	slices.SortStableFunc(f.problems, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	if more := len(f.problems) - maxProblems; more > 0 {
		f.problems[maxProblems].text = fmt.Sprintf("from here on there are %d more problems", more)
		f.problems = f.problems[:maxProblems+1]
	}
	errs := make([]error, len(f.problems))
	for i, p := range f.problems {
		errs[i] = fmt.Errorf("--config.file %s: line %d: %s", path, p.line, p.text)
	}
	return nil, errors.Join(errs...)
}

// fileParser reads a file of accounts, and gathers what is wrong with it.
type fileParser struct {
	dir      string // of the file
	flags    Config
	fields   []field
	name     Rule[string]   // of an account
	accounts []Account      // sorted by name
	lines    map[string]int // of what is given, by its path from "accounts" on
	problems []problem
}

func (f *fileParser) add(line int, format string, args ...any) {
	f.problems = append(f.problems, problem{max(line, 1), fmt.Sprintf(format, args...)})
}

// parse gives the root of the document; nil if there is none.
func (f *fileParser) parse(text []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var first, second yaml.Node
	if err := decoder.Decode(&first); errors.Is(err, io.EOF) {
		f.add(1, "the file is empty, but must have accounts")
		return nil
	} else if err != nil {
		f.addSyntax(err)
		return nil
	}
	if err := decoder.Decode(&second); err == nil {
		f.add(second.Line, "a second document begins, but one is all that is read")
	} else if !errors.Is(err, io.EOF) {
		f.addSyntax(err)
	}
	return first.Content[0]
}

// addSyntax adds an error of the YAML library, which quotes nothing of the file but
// the name of an anchor.
func (f *fileParser) addSyntax(err error) {
	parts := regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`).FindStringSubmatch(err.Error())
	switch {
	case parts == nil, strings.HasPrefix(parts[2], "unknown anchor"):
		f.add(1, "this is no YAML that can be read, perhaps for an alias (*name) without its anchor")
	default:
		line, _ := strconv.Atoi(parts[1]) // without one it is the first
		f.add(line, "this is no YAML: %s", parts[2])
	}
}

// document reads what is at the top.
func (f *fileParser) document(root *yaml.Node) {
	f.mapping(root, "the file", "accounts", func(key, value *yaml.Node) {
		if key.Value != "accounts" {
			f.add(key.Line, "%s is no field here; there is: accounts", fieldName("", key.Value))
			return
		}
		f.lines["accounts"] = key.Line
		if n := len(value.Content) / 2; n > MaxAccounts {
			f.add(key.Line, "accounts has %d accounts, but must have 1 to %d", n, MaxAccounts)
			return
		}
		f.mapping(value, "accounts", "an entry for each account", f.account)
	})
	if f.lines["accounts"] == 0 {
		f.add(root.Line, "there are no accounts")
	}
	slices.SortFunc(f.accounts, func(a, b Account) int { return cmp.Compare(a.Name, b.Name) })
}

// mapping visits each field of a mapping once. path and holds are for errors: where
// it is, and what it must have.
func (f *fileParser) mapping(n *yaml.Node, path, holds string, visit func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		f.add(n.Line, "%s%s", path, misshapen(n, "a mapping that has "+holds))
		return
	}
	lines := make(map[string]int)
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		first, twice := lines[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			f.add(key.Line, "%s has a field whose name is no text", path)
		case twice:
			f.add(key.Line, "%s is given twice, first in line %d", fieldName(path, key.Value), first)
		default:
			lines[key.Value] = key.Line
			visit(key, n.Content[i+1])
		}
	}
}

// account reads an account.
func (f *fileParser) account(key, value *yaml.Node) {
	if _, wrong := parseNode(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key.Value}, f.name); wrong != nil {
		f.add(key.Line, "accounts: a name%s", wrong[0].text)
		refused := f.flags.Account
		refused.Keys, refused.Collectors = Keys{}, maps.Clone(refused.Collectors)
		f.section(&refused, fieldName("accounts", key.Value), "", value) // its fields may be wrong too
		return
	}
	a := f.flags.Account
	a.Name, a.Keys, a.Collectors = key.Value, Keys{}, maps.Clone(a.Collectors)
	path := "accounts." + a.Name
	f.lines[path] = key.Line
	f.section(&a, path, "", value)
	// An account that switches off what is off anyway is the same account. The inventory
	// is on or off by where its API is, if nothing is said of it.
	maps.DeleteFunc(a.Collectors, func(name string, on bool) bool { return !on && name != inventory })
	f.locate(&a)
	f.accounts = append(f.accounts, a)
}

// section reads the fields of an account that are below a path: "" or such as
// "external_access.".
func (f *fileParser) section(a *Account, path, below string, n *yaml.Node) {
	names := f.names(below)
	f.mapping(n, path, strings.Join(names, ", "), func(key, value *yaml.Node) {
		path, inAccount := fieldName(path, key.Value), below+key.Value
		if !slices.Contains(names, key.Value) {
			f.add(key.Line, "%s is no field here; there are: %s", path, strings.Join(names, ", "))
			return
		}
		f.lines[path] = key.Line
		i := slices.IndexFunc(f.fields, func(field field) bool { return field.path == inAccount })
		if i < 0 {
			f.section(a, path, inAccount+".", value)
			return
		}
		for _, p := range f.fields[i].set(a, value) {
			f.add(cmp.Or(p.line, key.Line), "%s%s", path, p.text)
		}
	})
}

// names are those that may stand below a path, in the order of the table.
func (f *fileParser) names(below string) []string {
	var names []string
	for _, field := range f.fields {
		if rest, ok := strings.CutPrefix(field.path, below); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// fieldName is a field as errors name it. What does not look like the name of a
// field may be a key that was written into the file.
func fieldName(path, name string) string {
	const longest, letters = 32, "abcdefghijklmnopqrstuvwxyz0123456789_-"
	if name == "" || len(name) > longest || strings.Trim(name, letters) != "" {
		return strings.TrimPrefix(path+".(a name that is not shown)", ".")
	}
	return strings.TrimPrefix(path+"."+name, ".")
}

// locate completes an account by where its files are.
func (f *fileParser) locate(a *Account) {
	for _, place := range keyPlaces() {
		keys := place.of(a)
		for _, path := range []*string{&keys.AccessKeyFile, &keys.SecretKeyFile, &keys.CredentialsFile} {
			if *path != "" && !filepath.IsAbs(*path) {
				*path = filepath.Join(f.dir, *path)
			}
		}
		if keys.ServerRole {
			keys.ServerRoleURL = f.flags.Account.Keys.ServerRoleURL
		}
	}
	ledger, flag := &a.StateFile, f.flags.Account.StateFile
	path := "accounts." + a.Name + ".state_file"
	line, given := f.lines[path]
	switch {
	case !given && flag.Path == "":
		*ledger = flag
	case !given:
		*ledger = StateFile{Path: filepath.Join(filepath.Dir(flag.Path), "accounts", a.Name), Given: flag.Given}
	case ledger.Path == "" || filepath.IsAbs(ledger.Path):
		ledger.Given = true
	case flag.Path == "":
		f.add(line, "%s is relative to the directory of --state.file, which is empty: give a full path", path)
	default:
		*ledger = StateFile{Path: filepath.Join(filepath.Dir(flag.Path), ledger.Path), Given: true}
	}
}
