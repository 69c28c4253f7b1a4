// Strangers checks proofs of a Stele log with Go's own library for transparent logs (golang.org/x/mod/sumdb), which shares no line
// with Stele. It reads cases from standard input, one JSON object per line, and prints how many it judged as expected; it ends with 1
// at the first that it judged otherwise.
//
//	{"kind":"inclusion","valid":true,"size":7,"root":B64,"index":3,"leaf":B64,"proof":[B64,…]}      RFC 6962, leaf = leaf hash
//	{"kind":"consistency","valid":true,"old":3,"old_root":B64,"size":7,"root":B64,"proof":[B64,…]}
//	{"kind":"checkpoint","valid":true,"vkey":TEXT,"note":TEXT}                                      a signed checkpoint
//	{"kind":"tiles","valid":true,"size":7,"root":B64,"tiles":{"0/000.p/7":B64,…},"index":3,"leaf":B64}  a proof read from tiles
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type testCase struct {
	Kind    string            `json:"kind"`
	Valid   bool              `json:"valid"`
	Old     int64             `json:"old"`
	OldRoot string            `json:"old_root"`
	Size    int64             `json:"size"`
	Root    string            `json:"root"`
	Index   int64             `json:"index"`
	Leaf    string            `json:"leaf"`
	Proof   []string          `json:"proof"`
	Vkey    string            `json:"vkey"`
	Note    string            `json:"note"`
	Tiles   map[string]string `json:"tiles"`
}

func hash(text string) (h tlog.Hash, err error) {
	bytes, err := base64.StdEncoding.DecodeString(text)
	if err == nil && len(bytes) != len(h) {
		err = fmt.Errorf("%d bytes are no hash", len(bytes))
	}
	copy(h[:], bytes)
	return h, err
}

func hashes(texts []string) ([]tlog.Hash, error) {
	var all []tlog.Hash
	for _, text := range texts {
		h, err := hash(text)
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

func check(c *testCase) error {
	switch c.Kind {
	case "checkpoint":
		verifier, err := note.NewVerifier(c.Vkey)
		if err != nil {
			return err
		}
		opened, err := note.Open([]byte(c.Note), note.VerifierList(verifier))
		if err != nil {
			return err
		}
		lines := strings.Split(opened.Text, "\n")
		if len(lines) < 4 || lines[0] != verifier.Name() {
			return fmt.Errorf("not a checkpoint of this log")
		}
		_, err = hash(lines[2])
		return err
	}
	root, err := hash(c.Root)
	if err != nil {
		return err
	}
	proof, err := hashes(c.Proof)
	if err != nil {
		return err
	}
	switch c.Kind {
	case "inclusion":
		leaf, err := hash(c.Leaf)
		if err != nil {
			return err
		}
		return tlog.CheckRecord(proof, c.Size, root, c.Index, leaf)
	case "consistency":
		old, err := hash(c.OldRoot)
		if err != nil {
			return err
		}
		return tlog.CheckTree(proof, c.Size, root, c.Old, old)
	case "tiles":
		leaf, err := hash(c.Leaf)
		if err != nil {
			return err
		}
		reader := tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: root}, &tileReader{c.Tiles})
		path, err := tlog.ProveRecord(c.Size, c.Index, reader)
		if err != nil {
			return err
		}
		return tlog.CheckRecord(path, c.Size, root, c.Index, leaf)
	}
	return fmt.Errorf("no kind of case: %q", c.Kind)
}

// tileReader serves tiles by their C2SP names. Go's own names carry the height and the width in another place.
type tileReader struct{ tiles map[string]string }

func (r *tileReader) Height() int { return 8 }

func (r *tileReader) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		name := fmt.Sprintf("%d/%03d", tile.L, tile.N)
		if tile.W < 256 {
			name += fmt.Sprintf(".p/%d", tile.W)
		}
		bytes, err := base64.StdEncoding.DecodeString(r.tiles[name])
		if err != nil || len(bytes) == 0 {
			return nil, fmt.Errorf("no tile %s", name)
		}
		all = append(all, bytes)
	}
	return all, nil
}

func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	judged := map[string]int{}
	for lines.Scan() {
		var c testCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Println("not a case:", err)
			os.Exit(2)
		}
		err := check(&c)
		if (err == nil) != c.Valid {
			fmt.Printf("judged otherwise (%v): %.600s\n", err, lines.Text())
			os.Exit(1)
		}
		judged[fmt.Sprintf("%s %v", c.Kind, c.Valid)]++
	}
	if err := lines.Err(); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	for _, kind := range []string{"inclusion", "consistency", "checkpoint", "tiles"} {
		fmt.Printf("%s: %d accepted, %d refused\n", kind, judged[kind+" true"], judged[kind+" false"])
	}
}
