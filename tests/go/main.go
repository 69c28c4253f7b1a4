// Strangers checks proofs of a Stele log with Go's own library for transparent logs (golang.org/x/mod/sumdb) and, for cosignatures,
// with filippo.io/torchwood; neither shares a line with Stele. It reads cases from standard input, one JSON object per line, and prints how many it judged as expected; it ends with 1
// at the first that it judged otherwise.
//
//	{"kind":"inclusion","valid":true,"size":7,"root":B64,"index":3,"leaf":B64,"proof":[B64,…]}      RFC 6962, leaf = leaf hash
//	{"kind":"consistency","valid":true,"old":3,"old_root":B64,"size":7,"root":B64,"proof":[B64,…]}
//	{"kind":"checkpoint","valid":true,"vkey":TEXT,"note":TEXT}                                      a signed checkpoint
//	{"kind":"tiles","valid":true,"size":7,"root":B64,"tiles":{"0/000.p/7":B64,…},"index":3,"leaf":B64}  a proof read from tiles
//	{"kind":"proof","valid":true,"vkey":TEXT,"leaf":B64,"proof_text":TEXT}                          a c2sp.org/tlog-proof
//	{"kind":"cosignature","valid":true,"vkey":TEXT,"note":TEXT,"time":1800000000}                   of a witness, made at this time
package main

import (
	"bufio"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type testCase struct {
	Kind      string            `json:"kind"`
	Valid     bool              `json:"valid"`
	Old       int64             `json:"old"`
	OldRoot   string            `json:"old_root"`
	Size      int64             `json:"size"`
	Root      string            `json:"root"`
	Index     int64             `json:"index"`
	Leaf      string            `json:"leaf"`
	Proof     []string          `json:"proof"`
	ProofText string            `json:"proof_text"`
	Vkey      string            `json:"vkey"`
	Note      string            `json:"note"`
	Time      int64             `json:"time"`
	Tiles     map[string]string `json:"tiles"`
}

func hash(text string) (h tlog.Hash, err error) {
	bytes, err := base64.StdEncoding.Strict().DecodeString(text)
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

// checkpoint opens a checkpoint that the log of the key has signed.
func checkpoint(vkey, text string) (torchwood.Checkpoint, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return torchwood.Checkpoint{}, err
	}
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return torchwood.Checkpoint{}, err
	}
	body, err := torchwood.ParseCheckpoint(opened.Text)
	if err == nil && body.Origin != verifier.Name() {
		err = errors.New("not a checkpoint of this log")
	}
	return body, err
}

// proof checks a c2sp.org/tlog-proof of a leaf.
func proof(vkey, text string, leaf tlog.Hash) error {
	head, signed, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof")
	}
	lines = lines[1:]
	if strings.HasPrefix(lines[0], "extra ") && len(lines) > 1 {
		lines = lines[1:]
	}
	digits, found := strings.CutPrefix(lines[0], "index ")
	index, err := strconv.ParseInt(digits, 10, 64)
	if !found || err != nil || strconv.FormatInt(index, 10) != digits {
		return errors.New("no index")
	}
	path, err := hashes(lines[1:])
	if err != nil {
		return err
	}
	body, err := checkpoint(vkey, signed)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, body.N, body.Hash, index, leaf)
}

// publicOnly has the public half of a key: torchwood makes verifiers of signers alone.
type publicOnly struct{ key ed25519.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.key }

func (p publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no private key")
}

// cosignature checks that a witness has cosigned a checkpoint at a time.
func cosignature(vkey, text string, time int64) error {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return errors.New("not a vkey")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize {
		return errors.New("not a key of a witness")
	}
	signer, err := torchwood.NewCosignatureSigner(parts[0], publicOnly{key[1:]})
	if err != nil {
		return err
	}
	if signer.Verifier().String() != vkey {
		return errors.New("the vkey is not the key's own")
	}
	opened, err := note.Open([]byte(text), note.VerifierList(signer.Verifier()))
	if err != nil {
		return err
	}
	at, err := torchwood.CosignatureTimestamp(opened.Sigs[0])
	if err == nil && at != time {
		err = fmt.Errorf("cosigned at %d", at)
	}
	return err
}

func check(c *testCase) error {
	switch c.Kind {
	case "checkpoint":
		_, err := checkpoint(c.Vkey, c.Note)
		return err
	case "proof":
		leaf, err := hash(c.Leaf)
		if err != nil {
			return err
		}
		return proof(c.Vkey, c.ProofText, leaf)
	case "cosignature":
		return cosignature(c.Vkey, c.Note, c.Time)
	}
	root, err := hash(c.Root)
	if err != nil {
		return err
	}
	path, err := hashes(c.Proof)
	if err != nil {
		return err
	}
	switch c.Kind {
	case "inclusion":
		leaf, err := hash(c.Leaf)
		if err != nil {
			return err
		}
		return tlog.CheckRecord(path, c.Size, root, c.Index, leaf)
	case "consistency":
		old, err := hash(c.OldRoot)
		if err != nil {
			return err
		}
		return tlog.CheckTree(path, c.Size, root, c.Old, old)
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
	for _, kind := range []string{"inclusion", "consistency", "checkpoint", "tiles", "proof", "cosignature"} {
		fmt.Printf("%s: %d accepted, %d refused\n", kind, judged[kind+" true"], judged[kind+" false"])
	}
}
