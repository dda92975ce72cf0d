package container

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// Identity is whom the main process runs as.
type Identity struct {
	UID, GID int
	Groups   []int // supplementary, with GID among them
	Home     string
}

const maxID = 1<<31 - 1

// ResolveUser finds `name`, `uid`, `name:group`, `uid:gid` and mixtures of them in the container's own files, as Docker
// does: a number needs no entry, a group that is named replaces the supplementary ones, and no user means root.
func ResolveUser(user string, passwd, group io.Reader) (Identity, error) {
	userPart, groupPart, hasGroup := strings.Cut(user, ":")
	if userPart == "" {
		userPart = "0"
	}
	id := Identity{Home: "/"}
	name, found := "", false
	eachEntry(passwd, 7, func(f []string) bool {
		uid, uidOK := parseID(f[2])
		gid, gidOK := parseID(f[3])
		if !uidOK || !gidOK || (f[0] != userPart && f[2] != userPart) {
			return true
		}
		name, found = f[0], true
		id.UID, id.GID = uid, gid
		if f[5] != "" {
			id.Home = f[5]
		}
		return false
	})
	if !found {
		uid, ok := parseID(userPart)
		if !ok {
			return id, Errorf(CodeUserUnknown, "user %q is not in the container's /etc/passwd", userPart)
		}
		id.UID = uid
	}
	if hasGroup && groupPart != "" {
		gid, err := resolveGroup(groupPart, group)
		if err != nil {
			return id, err
		}
		id.GID = gid
		id.Groups = []int{gid}
		return id, nil
	}
	id.Groups = []int{id.GID}
	if found {
		eachEntry(group, 4, func(f []string) bool {
			gid, ok := parseID(f[2])
			if ok && gid != id.GID && contains(strings.Split(f[3], ","), name) {
				id.Groups = append(id.Groups, gid)
			}
			return true
		})
	}
	return id, nil
}

func resolveGroup(wanted string, group io.Reader) (int, error) {
	gid, found := 0, false
	eachEntry(group, 4, func(f []string) bool {
		n, ok := parseID(f[2])
		if !ok || (f[0] != wanted && f[2] != wanted) {
			return true
		}
		gid, found = n, true
		return false
	})
	if found {
		return gid, nil
	}
	if n, ok := parseID(wanted); ok {
		return n, nil
	}
	return 0, Errorf(CodeUserUnknown, "group %q is not in the container's /etc/group", wanted)
}

// eachEntry calls `entry` with the fields of each line that has that many, until it returns false.
func eachEntry(r io.Reader, fields int, entry func(f []string) bool) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ":")
		for len(f) < fields {
			f = append(f, "")
		}
		if !entry(f) {
			return
		}
	}
}

func parseID(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && n <= maxID
}

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s {
			return true
		}
	}
	return false
}
