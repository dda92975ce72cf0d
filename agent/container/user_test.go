package container

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

const passwd = `# a comment
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

app:x:1000:1001:An app:/home/app:/bin/sh
nohome:x:1002:1002:::
broken:x:one:two::/:
short:x:7
2000:x:1003:1003::/named-by-number:
`

const group = `root:x:0:root
app:x:1001:
wheel:x:10:root,app
audio:x:29:someone,app
app2:x:1001:app
broken:x:many:app
`

func TestAUserIsFoundAsDockerFindsIt(t *testing.T) {
	for user, want := range map[string]Identity{
		"":           {UID: 0, GID: 0, Groups: []int{0, 10}, Home: "/root"},
		"root":       {UID: 0, GID: 0, Groups: []int{0, 10}, Home: "/root"},
		"0":          {UID: 0, GID: 0, Groups: []int{0, 10}, Home: "/root"},
		"app":        {UID: 1000, GID: 1001, Groups: []int{1001, 10, 29}, Home: "/home/app"},
		"1000":       {UID: 1000, GID: 1001, Groups: []int{1001, 10, 29}, Home: "/home/app"},
		"app:":       {UID: 1000, GID: 1001, Groups: []int{1001, 10, 29}, Home: "/home/app"},
		"app:audio":  {UID: 1000, GID: 29, Groups: []int{29}, Home: "/home/app"},
		"app:10":     {UID: 1000, GID: 10, Groups: []int{10}, Home: "/home/app"},
		"app:4242":   {UID: 1000, GID: 4242, Groups: []int{4242}, Home: "/home/app"},
		":wheel":     {UID: 0, GID: 10, Groups: []int{10}, Home: "/root"},
		"5555":       {UID: 5555, GID: 0, Groups: []int{0}, Home: "/"},
		"5555:6666":  {UID: 5555, GID: 6666, Groups: []int{6666}, Home: "/"},
		"nohome":     {UID: 1002, GID: 1002, Groups: []int{1002}, Home: "/"},
		"2000":       {UID: 1003, GID: 1003, Groups: []int{1003}, Home: "/named-by-number"},
		"2147483647": {UID: 2147483647, GID: 0, Groups: []int{0}, Home: "/"},
	} {
		got, err := ResolveUser(user, strings.NewReader(passwd), strings.NewReader(group))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", user, got, err, want)
		}
	}
}

func TestAnImageWithoutAccountsKnowsNumbersOnly(t *testing.T) {
	none := strings.NewReader("")
	if got, err := ResolveUser("", none, none); err != nil || got.UID != 0 || got.Home != "/" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ResolveUser("app", none, none); err == nil {
		t.Error("app was found")
	}
}

func TestAnUnknownUserOrGroupIsNamed(t *testing.T) {
	for user, named := range map[string]string{
		"ghost": `"ghost"`, "app:ghosts": `"ghosts"`, "-1": `"-1"`, "2147483648": `"2147483648"`, "broken": `"broken"`,
		"app:-5": `"-5"`,
	} {
		_, err := ResolveUser(user, strings.NewReader(passwd), strings.NewReader(group))
		var coded *Error
		if !errors.As(err, &coded) || coded.Code != CodeUserUnknown || !strings.Contains(err.Error(), named) {
			t.Errorf("%q: %v", user, err)
		}
	}
}
