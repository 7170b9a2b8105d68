"""Go templates: what Docker's own client answered for the same image, template by template."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.cli.gotemplate import Template, TemplateError
from gantry.cli.gotemplate_values import INVALID, Record, numbers_as_written, typed

IMAGE: dict[str, Any] = {
    "Id": "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d",
    "RepoTags": ["busybox:latest"],
    "RepoDigests": [],
    "Parent": "",
    "Comment": "Imported from -",
    "Created": "2026-11-24T00:22:28.081663588Z",
    "DockerVersion": "28.5.2",
    "Author": "",
    "Architecture": "amd64",
    "Os": "linux",
    "Size": 1984230,
    "GraphDriver": {"Data": {"UpperDir": "/u", "MergedDir": "/m"}, "Name": "overlay2"},
    "RootFS": {"Type": "layers", "Layers": ["sha256:9f87"]},
    "Metadata": {"LastTagTime": "2026-11-24T00:22:28.083440338Z"},
    "Config": {
        "Cmd": ["sh"],
        "Entrypoint": None,
        "Env": None,
        "Labels": None,
        "OnBuild": None,
        "User": "",
        "Volumes": None,
        "WorkingDir": "",
    },
}

ANSWERS = [
    ('{{index .Config.Labels "a"}}', ""),
    ("{{.Config}}", "{{ map[] [] [] [sh] map[]  map[]  false} {<nil> [] []}}"),
    ("{{.RootFS}}", "{layers [sha256:9f87]}"),
    ("{{.Config.Env}}", "[]"),
    ("{{.Config.Labels}}", "map[]"),
    ("{{.Config.Cmd | len}}", "1"),
    ("{{.Size}}", "1984230"),
    ("{{.Config.Volumes}}", "map[]"),
    ("{{.Metadata}}", "{2026-11-24 00:22:28.083440338 +0000 UTC}"),
    ("{{json .Metadata}}", '{"LastTagTime":"2026-11-24T00:22:28.083440338Z"}'),
    ("{{.Metadata.LastTagTime}}", "2026-11-24 00:22:28.083440338 +0000 UTC"),
    ("{{range .RepoTags}}{{println .}}{{end}}", "busybox:latest\n"),
    ('{{printf "%v" .Config.Labels.foo}}', "<nil>"),
    ("{{.Config.Labels.foo.bar}}", "<no value>"),
    ('{{printf "%q" .RepoTags}}', '["busybox:latest"]'),
    ('{{1}}{{1.5}}{{"x"}}', "11.5x"),
    ('{{define "x"}}hi{{end}}{{template "x"}}', "hi"),
    ('{{split .Id ":"}}', "[sha256 da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d]"),
    ("a{{/* c */}}b", "ab"),
    ('{{printf "%d" .Id}}', "%!d(string=sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d)"),
    ('{{printf "%v" .Config.Healthcheck}}', "<nil>"),
    ('{{.DockerVersion | printf "%5s|"}}', "28.5.2|"),
    ("{{slice .Id 0 12}}", "sha256:da215"),
    ("{{.Config.Entrypoint}}", "[]"),
    ("{{and .Id .Parent}}", ""),
    ("{{not .Parent}}", "true"),
    ("{{.Config.User}}|{{.Config.Volumes}}|{{.Config.ExposedPorts}}", "|map[]|map[]"),
    ("{{.Config.OnBuild}}", "[]"),
    ("{{.OsVersion}}|{{.Metadata.LastTagTime.Unix}}", "|1795479748"),
    ("{{.Size | json}}", "1984230"),
    (
        "{{json .}}",
        '{"Id":"sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d","RepoTags":["busybox:latest"],"RepoDigests":[],"Parent":"","Comment":"Imported from -","Created":"2026-11-24T00:22:28.081663588Z","DockerVersion":"28.5.2","Author":"","Config":{"Cmd":["sh"]},"Architecture":"amd64","Os":"linux","Size":1984230,"GraphDriver":{"Data":{"MergedDir":"/m","UpperDir":"/u"},"Name":"overlay2"},"RootFS":{"Type":"layers","Layers":["sha256:9f87"]},"Metadata":{"LastTagTime":"2026-11-24T00:22:28.083440338Z"}}',
    ),
    ('{{printf "%#v" .RepoTags}}', '[]string{"busybox:latest"}'),
    ("{{range $i, $t := .RepoTags}}{{$i}}={{$t}}{{else}}none{{end}}", "0=busybox:latest"),
    ("{{with $x := .Author}}a{{else}}b{{end}}", "b"),
    ("{{$x := 1}}{{$x = 2}}{{$x}}", "2"),
    ('{{if eq .Os "linux" "w"}}y{{else if true}}z{{end}}', "y"),
    ('{{title "hello world"}} {{upper "x"}} {{pad "x" 1 2}}| {{truncate "hello" 2}}', "Hello World X  x  | he"),
    ('{{truncate "héllo" 2}}', "h\udcc3"),
    ("{{len .RepoTags}} {{len .Id}}", "1 71"),
    ("{{range 3}}{{.}}{{end}}", "012"),
    ("{{range .RepoTags}}{{break}}{{end}}", ""),
    ('{{"a" | printf "%s%s" "b"}}', "ba"),
    ('{{print 1 2 "a" "b" 3}}', "1 2ab3"),
    ('{{println 1 "a"}}', "1 a\n"),
    ('{{html "<a>"}}{{js "\\""}}{{urlquery "a b"}}', '&lt;a&gt;\\"a+b'),
    ("{{.Config.Cmd}}{{index .Config.Cmd 0}}", "[sh]sh"),
    ('{{lt 1 2}}{{lt "a" "b"}}{{ge 1.5 1.0}}', "truetruetrue"),
    ("{{'a'}}", "97"),
    ("{{0x10}} {{1e3}} {{0b11}} {{1_000}} {{017}}", "16 1000 3 1000 15"),
    ("{{`raw`}}", "raw"),
    ("{{ (index .RepoTags 0) }}", "busybox:latest"),
    ("{{(.Config).Cmd}}", "[sh]"),
    ("{{$.Id}}", "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d"),
    ('{{ join .RepoTags "," }}', "busybox:latest"),
    ('{{block "a" .}}x{{end}}', "x"),
    ('x{{- "a" -}}  y', "xay"),
    ('x {{- "a" -}}  y', "xay"),
    ("{{-3}}", "-3"),
    ("{{print nil}}", "<nil>"),
    ('{{index . "Id"}}', "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d"),
    ("{{json .Config.Labels}}", "null"),
    ("{{.Id | }}", "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d"),
    ("{{ .1 }}", "0.1"),
    (
        '{{.Id}} {{.Size}} {{printf "%T" .Size}}',
        "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d 1984230 json.Number",
    ),
    (
        '{{.Id}} {{printf "%T %T %T" .RepoTags .Config .RepoDigests}}',
        "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d []interface {} map[string]interface {} []interface {}",
    ),
    (
        "{{.Id}} {{.RepoTags}} {{.Config}}",
        "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d [busybox:latest] map[Cmd:[sh] Entrypoint:<nil> Env:<nil> Labels:<nil> OnBuild:<nil> User: Volumes:<nil> WorkingDir:]",
    ),
    (
        '{{printf "%v %s %+v" .Config .Metadata .RootFS}}',
        "&{{ map[] [] [] [sh] map[]  map[]  false} {<nil> [] []}} {2026-11-24 00:22:28.083440338 +0000 UTC} {Type:layers Layers:[sha256:9f87]}",
    ),
    (
        '{{printf "%v" 1984230.5}} {{printf "%v" 1e21}} {{1e22}} {{printf "%v" 0.00001}} {{printf "%6.2f|%-6d|%06d|%+d|%x|%X|%o|%b|%c|%U" 3.14159 42 42 42 255 255 8 5 65 65}}',
        "1.9842305e+06 1e+21 1e+22 1e-05   3.14|42    |000042|+42|ff|FF|10|101|A|U+0041",
    ),
    (
        '{{printf "%s" 3}} {{printf "%d %d" 3}} {{printf "%d" 3 4}} {{printf "%z" 3}} {{printf "%"}} {{printf "%!"}} {{printf "%s" nil}} {{printf "%5t|%t" true false}}',
        "%!s(int=3) 3 %!d(MISSING) 3%!(EXTRA int=4) %!z(int=3) %!(NOVERB) %!!(MISSING) %!s(<nil>)  true|false",
    ),
    (
        '{{printf "%q %x %10s|%-10s|%.2s|%5.1s|" "a\\"b" "hi" "abc" "abc" "abc" "abc"}}',
        '"a\\"b" 6869        abc|abc       |ab|    a|',
    ),
    (
        '{{printf "%[2]d %[1]d" 1 2}} {{printf "%*d" 5 42}} {{printf "%v %v" true nil}} {{printf "%%"}}',
        "2 1    42 true <nil> %",
    ),
    ('{{printf "%#v %#v %#v" 1 "a" nil}}', '1 "a" <nil>'),
    ('{{index .Config.Labels "a" | printf "%T"}}', "string"),
    (
        '{{.Metadata.LastTagTime.Format "2006-01-02 Mon Jan _2 15:04:05.000 MST"}}',
        "2026-11-24 Tue Nov 24 00:22:28.083 UTC",
    ),
    (
        '{{printf "%s" .RepoTags}} {{printf "%d" .RepoTags}} {{printf "%v" .GraphDriver.Data}}',
        "[busybox:latest] [%!d(string=busybox:latest)] map[MergedDir:/m UpperDir:/u]",
    ),
    ('{{printf "%c%c" 0x48 0x49}} {{print 1.0 2.5}} {{printf "%g %e" 2.5 2.5}}', "HI 1 2.5 2.5 2.500000e+00"),
    ('{{index .GraphDriver.Data "x"}}|', "|"),
    ("{{index .Id 0}}", "115"),
    ("{{slice .RepoTags 0 1}}", "[busybox:latest]"),
    ("{{eq .Config .Config}}", "true"),
    ("{{eq nil nil}}", "true"),
    ("{{range .Config}}{{.}}{{end}}", "[sh]<no value><no value><no value><no value><no value>"),
    ("{{range $k,$v := .GraphDriver.Data}}{{$k}}{{end}}", "MergedDirUpperDir"),
    ("{{len .Config}}", "8"),
    ("{{if .Config.Healthcheck}}y{{else}}n{{end}}", "n"),
    ('{{printf "%v" .Config.ExposedPorts}}', "map[]"),
    ('{{not 1}}{{or "" "x"}}{{and 1 0 2}}{{or 0 ""}}|', "falsex0|"),
    ('{{json "<a&b>"}}', '"<a&b>"'),
    ("{{json 1.0}}{{json nil}}", "1null"),
    ("{{println}}", "\n"),
    ('{{title "ab-cd é"}}', "Ab-Cd É"),
    ("{{range 2}}a{{end}}", "aa"),
    ('{{\n"a"\n}}', "a"),
    ("{{with .Config}}{{.Cmd}}{{else with .Id}}x{{end}}", "[sh]"),
    (
        '{{with ""}}{{.Cmd}}{{else with .Id}}x{{.}}{{end}}',
        "xsha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d",
    ),
    ("{{if false}}{{else if .Id}}a{{else}}b{{end}}", "a"),
    ("{{range $i := .RepoTags}}{{$i}}{{end}}", "busybox:latest"),
    (
        "{{$a := .Id}}{{$a}}{{with .Config}}{{$a}}{{$.Id}}{{end}}",
        "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198dsha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198dsha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d",
    ),
    (
        '{{.Id}}{{define "a"}}{{end}}{{define "a"}}b{{end}}{{template "a"}}',
        "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198db",
    ),
    ("{{- /* c */ -}} x", "x"),
    (
        '{{printf "%s" .Config}}',
        "&{{ map[] [] [] [sh] map[]  map[]  %!s(bool=false)} {%!s(*v1.HealthcheckConfig=<nil>) [] []}}",
    ),
    ('{{printf "%d" .Config.Cmd}}', "[%!d(string=sh)]"),
    (
        '{{printf "%x" "hé"}} {{printf "% x" "hé"}} {{printf "%U" 0x1F600}} {{printf "%q" 65}} {{printf "%#x %#o %#q" 255 8 "a"}}',
        "68c3a9 68 c3 a9 U+1F600 'A' 0xff 010 `a`",
    ),
    ('{{printf "%08.3f|%+.2e|%g|%G" 3.14159 1234.5 1e-7 1e-7}}', "0003.142|+1.23e+03|1e-07|1E-07"),
    ('{{printf "%t" 1}} {{printf "%v" 1.0}} {{printf "%5v|%-5v|%05d" 1 2 -3}}', "%!t(int=1) 1     1|2    |-0003"),
    ('{{printf "%s %v" (split "a,b" ",") (split "a,b" ",")}}', "[a b] [a b]"),
    ('{{join (split "a,b" ",") "-"}}', "a-b"),
    ('{{range split "a,b" ","}}<{{.}}>{{end}}', "<a><b>"),
    ('{{len (split "a,b" ",")}}', "2"),
    ("{{eq .Os .Os}} {{ne 1 2}} {{le 2 2}} {{gt 3 2}}", "true true true true"),
    ("{{eq 1 2 3 1}}", "true"),
    ("{{and true}} {{or false}}", "true false"),
    ("{{range .}}{{end}}", ""),
    ("{{range .RepoTags}}a{{continue}}b{{end}}", "a"),
    ('{{block "x" .}}{{.Os}}{{end}}', "linux"),
    ('{{define "x"}}{{end}}', ""),
    ("{{$.Os}}x", "linuxx"),
    ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
    ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
    ('{{.Size | printf "%d MB"}}', "1984230 MB"),
    ("{{json (index .RepoTags 0)}}", '"busybox:latest"'),
    ("{{json .RepoTags}} {{json .Config.Cmd}} {{json .Size}} {{json true}}", '["busybox:latest"] ["sh"] 1984230 true'),
    ('{{"\\n\\t\\"\\u00e9\\x41\\101"}}', '\n\t"éAA'),
    ("{{'\\n'}}", "10"),
    ('{{print "a" | print "b" | print}}', "ba"),
    ('{{.Id | len | printf "%03d"}}', "071"),
    ('{{len "é"}}', "2"),
    ('{{index "é" 0}}', "195"),
    ('{{slice "héllo" 0 2}}', "h\udcc3"),
    ("{{slice .RepoTags 0 1 1}}", "[busybox:latest]"),
    ("{{index .RepoTags 0 0}}", "98"),
    ("{{index .Os}}", "linux"),
    ('{{index . "RootFS"}}', "map[Layers:[sha256:9f87] Type:layers]"),
    ("{{.RootFS.Layers}} {{len .RootFS.Layers}}", "[sha256:9f87] 1"),
    ("{{.Descriptor}} {{.Manifests}} {{json .Descriptor}}", "<nil> [] null"),
    ("{{.GraphDriver}}", "{map[MergedDir:/m UpperDir:/u] overlay2}"),
    ("{{.GraphDriver.Name}} {{.GraphDriver.Data.UpperDir}}", "overlay2 /u"),
    ("{{.ContainerConfig}} {{.VirtualSize}} {{.Container}}|", "<nil> 0 |"),
    ("{{if not .Config.Labels}}none{{end}}", "none"),
    ("{{if .RepoDigests}}y{{else}}n{{end}}", "n"),
    ("{{.RepoDigests}}", "[]"),
    ("{{range .RepoDigests}}a{{else}}empty{{end}}", "empty"),
    ("{{upper .Os}} {{.Os | upper}} {{.Os|title}}", "LINUX LINUX Linux"),
    ('{{pad .Os 2 2}}|{{pad "" 2 2}}|', "  linux  ||"),
    ('{{truncate .Id 7}} {{truncate "a" 5}}', "sha256: a"),
    ("x", "x"),
    ("table {{.Id}}", "table sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d"),
    ("{{.Id}}\\n{{.Os}}\\t", "sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d\\nlinux\\t"),
    ("\\n", "\\n"),
    ("{{ .Metadata.LastTagTime.Year }} {{.Metadata.LastTagTime.IsZero}}", "2026 false"),
    ("{{.Metadata.LastTagTime | json}}", '"2026-11-24T00:22:28.083440338Z"'),
    (
        '{{ printf "%v" .Metadata.LastTagTime }} {{printf "%s" .Metadata.LastTagTime}}',
        "2026-11-24 00:22:28.083440338 +0000 UTC 2026-11-24 00:22:28.083440338 +0000 UTC",
    ),
    ("{{.Created}}", "2026-11-24T00:22:28.081663588Z"),
    ("{{ range $k, $v := .Config.Labels }}{{$k}}={{$v}} {{ end }}|", "|"),
    ("{{ .Config.Labels.a.b }}", "<no value>"),
    ('{{js "<é>"}} {{html "\'"}}', "\\u003Cé\\u003E &#39;"),
    ("{{print (print 1) 2}}", "12"),
    ('{{print "a" 1 2 "b"}} {{print 1 2}} {{print true false}}', "a1 2b 1 2 true false"),
    ('{{or .Author "none"}} {{and .Os .Architecture}}', "none amd64"),
    ('{{printf "%s/%s" .Os .Architecture}}', "linux/amd64"),
    ("{{printf .Os}}", "linux"),
]

PROBLEMS = [
    ("{{.Foo}}", ':1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
    ("{{json .}", ":1: bad character U+007D '}'"),
    ("{{if}}", ":1: missing value for if"),
    ("{{.Id | foo}}", ':1: function "foo" not defined'),
    ("{{nil}}", ':1:2: executing "" at <nil>: nil is not a command'),
    ("{{index .RepoTags 5}}", ':1:2: executing "" at <index .RepoTags 5>: error calling index: index out of range: 5'),
    ("{{.Config.Foo}}", ':1:9: executing "" at <.Config.Foo>: map has no entry for key "Foo"'),
    ("{{.Id.foo}}", ':1:5: executing "" at <.Id.foo>: can\'t evaluate field foo in type interface {}'),
    ("{{len 3}}", ':1:2: executing "" at <len 3>: error calling len: len of type int'),
    ('{{eq 1 "a"}}', ':1:2: executing "" at <eq 1 "a">: error calling eq: incompatible types for comparison'),
    (
        "{{join .RepoTags 3}}",
        ':1:7: executing "" at <.RepoTags>: wrong type for value; expected []string; got []interface {}',
    ),
    ("{{", ":1: unclosed action"),
    ("{{end}}", ":1: unexpected {{end}}"),
    ("{{if true}}", ":1: unexpected EOF"),
    ('{{"abc}}', ":1: unterminated quoted string"),
    ('{{template "y"}}', ':1:11: executing "" at <{{template "y"}}>: template "y" not defined'),
    ("{{.ID}} {{.Id}}", ':1:2: executing "" at <.ID>: map has no entry for key "ID"'),
    ("{{$x}}", ':1: undefined variable "$x"'),
    ("{{lower .}}", ':1:8: executing "" at <.>: wrong type for value; expected string; got map[string]interface {}'),
    ("{{break}}", ":1: {{break}} outside {{range}}"),
    ("{{not}}", ':1:2: executing "" at <not>: wrong number of args for not: want 1 got 0'),
    ("{{eq}}", ':1:2: executing "" at <eq>: wrong number of args for eq: want at least 1 got 0'),
    ("{{eq 1}}", ':1:2: executing "" at <eq 1>: error calling eq: missing argument for comparison'),
    ("{{printf}}", ':1:2: executing "" at <printf>: wrong number of args for printf: want at least 1 got 0'),
    ("{{.Config.Cmd.Foo}}", ':1:9: executing "" at <.Config.Cmd.Foo>: can\'t evaluate field Foo in type interface {}'),
    ('{{ .RepoTags | join ","}}', ':1:20: executing "" at <",">: can\'t handle "," for arg of type []string'),
    ("{{.Created.Foo}}", ':1:10: executing "" at <.Created.Foo>: can\'t evaluate field Foo in type interface {}'),
    ("{{ - 3}}", ':1: illegal number syntax: "-"'),
    ("{{true}} {{false}} {{nil | print}}", ':1:21: executing "" at <nil>: nil is not a command'),
    ("{{.Foo.Bar}}", ':1:6: executing "" at <.Foo.Bar>: map has no entry for key "Foo"'),
    ("{{if .Config}}x{{end}", ":1: bad character U+007D '}'"),
    ("{{range}}x{{end}}", ":1: missing value for range"),
    ("{{else}}", ":1: unexpected {{else}}"),
    ("{{if true}}{{else}}{{else}}{{end}}", ":1: expected end; found {{else}}"),
    ("{{ .Id .Os }}", ':1:3: executing "" at <.Id>: Id is not a method but has arguments'),
    ("{{ 1 2 }}", ':1:3: executing "" at <1>: can\'t give argument to non-function 1'),
    ('{{ "a" .Id}}', ':1:3: executing "" at <"a">: can\'t give argument to non-function "a"'),
    ("{{ | }}", ':1: unexpected "|" in command'),
    ('{{ .Id | "x" }}', ":1: non executable command in pipeline stage 2"),
    ("{{ foo }}", ':1: function "foo" not defined'),
    ("{{ . . }}", ':1:3: executing "" at <.>: can\'t give argument to non-function .'),
    ("{{ (1 }}", ":1: unclosed left paren"),
    ("{{ 1) }}", ":1: unexpected right paren"),
    ("{{ @ }}", ':1: unexpected "@" in command'),
    ('{{ "x" | .Id }}', ':1:9: executing "" at <.Id>: Id is not a method but has arguments'),
    ("{{/* a }}", ":1: unclosed comment"),
    ("{{template}}", ':1: unexpected "}}" in template clause'),
    ("{{define}}", ':1: unexpected "}}" in define clause'),
    ("{{end", ":1: unclosed action"),
    (
        "{{.Id}} {{.Author}} {{lt .Size 3}}",
        ':1:22: executing "" at <lt .Size 3>: error calling lt: incompatible types for comparison',
    ),
    (
        "{{.RootFS.Type.Foo}}",
        ':1:9: executing "" at <.RootFS.Type.Foo>: can\'t evaluate field Foo in type interface {}',
    ),
    (
        '{{index .RepoTags "a"}}',
        ':1:2: executing "" at <index .RepoTags "a">: error calling index: cannot index slice/array with type string',
    ),
    (
        "{{index .GraphDriver.Data 1}}",
        ':1:2: executing "" at <index .GraphDriver.Data 1>: error calling index: value has type int; should be string',
    ),
    ("{{slice .Id 1 100}}", ':1:2: executing "" at <slice .Id 1 100>: error calling slice: index out of range: 100'),
    ("{{slice 3}}", ':1:2: executing "" at <slice 3>: error calling slice: can\'t slice item of type int'),
    ("{{index 3 1}}", ':1:2: executing "" at <index 3 1>: error calling index: can\'t index item of type int'),
    ("{{lt .RepoTags 1}}", ':1:2: executing "" at <lt .RepoTags 1>: error calling lt: invalid type for comparison'),
    (
        "{{eq .RepoTags .RepoTags}}",
        ':1:2: executing "" at <eq .RepoTags .RepoTags>: error calling eq: non-comparable type [busybox:latest]: []interface {}',
    ),
    ('{{lt "a" 1}}', ':1:2: executing "" at <lt "a" 1>: error calling lt: incompatible types for comparison'),
    ("{{lt true false}}", ':1:2: executing "" at <lt true false>: error calling lt: invalid type for comparison'),
    (
        "{{if .Id.Foo.Bar}}{{end}}",
        ':1:8: executing "" at <.Id.Foo.Bar>: can\'t evaluate field Foo in type interface {}',
    ),
    ('{{split "a"}}', ':1:2: executing "" at <split>: wrong number of args for split: want 2 got 1'),
    ('{{split "a" 1}}', ':1:12: executing "" at <1>: expected string; found 1'),
    ('{{pad "a" "b" 1}}', ':1:10: executing "" at <"b">: expected integer; found "b"'),
    ('{{truncate "abc" 1.5}}', ':1:17: executing "" at <1.5>: expected integer; found 1.5'),
    ("{{with .Config}}{{.Foo}}{{end}}", ':1:18: executing "" at <.Foo>: map has no entry for key "Foo"'),
    (
        "{{range .Id}}{{.}}{{end}}",
        ':1:8: executing "" at <.Id>: range can\'t iterate over sha256:da215c65f9321671dcd50da60aa79815b53f99bd06d5bcddf1f4deeff407198d',
    ),
    (
        "{{range .RepoTags}}{{.Foo}}{{end}}",
        ':1:21: executing "" at <.Foo>: can\'t evaluate field Foo in type interface {}',
    ),
    (
        "{{len nil}}",
        ':1:2: executing "" at <len nil>: error calling len: reflect: call of reflect.Value.Type on zero Value',
    ),
    ("{{json .Foo}}", ':1:7: executing "" at <.Foo>: map has no entry for key "Foo"'),
    (
        '{{ (index .Config.Labels "x").foo }}',
        ':1:4: executing "" at <index .Config.Labels "x">: error calling index: index of untyped nil',
    ),
    (
        "{{.DockerVersion.Foo}}",
        ':1:16: executing "" at <.DockerVersion.Foo>: can\'t evaluate field Foo in type interface {}',
    ),
    (
        "{{.Config.Healthcheck.Test}}",
        ':1:9: executing "" at <.Config.Healthcheck.Test>: map has no entry for key "Healthcheck"',
    ),
    (
        "{{ .GraphDriver.Data.MergedDir.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa }}",
        ':1:15: executing "" at <.GraphDriver.Data.MergedDir.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa>: can\'t evaluate field aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa in type interface {}',
    ),
    (
        '{{template "x" .}}{{define "x"}}{{.Foo}}{{end}}',
        ':1:34: executing "x" at <.Foo>: map has no entry for key "Foo"',
    ),
    ("a\nb {{.Foo}}", ':2:4: executing "" at <.Foo>: map has no entry for key "Foo"'),
    ("{{range $i, $j, $k := .RepoTags}}{{end}}", ":1: too many declarations in range"),
    ("{{$a, $b := 1}}", ":1: too many declarations in command"),
    ("{{if $x := .Id}}{{$x}}{{end}}{{$x}}", ':1: undefined variable "$x"'),
    ('{{define "a"}}b{{end}}{{define "a"}}c{{end}}', ':1: template: multiple definition of template "a"'),
    ("{{ }}", ":1: missing value for command"),
    ("{{   -}} x", ":1: missing value for command"),
    ("{{/* c */ }}", ":1: comment ends before closing delimiter"),
    ("{{eq 1 1.0}}", ':1:2: executing "" at <eq 1 1.0>: error calling eq: incompatible types for comparison'),
    ("{{and}}", ':1:2: executing "" at <and>: wrong number of args for and: want at least 1 got 0'),
    ("{{not true false}}", ':1:2: executing "" at <not>: wrong number of args for not: want 1 got 2'),
    ("{{.Id.}}", ":1: unexpected <.> in operand"),
    ("{{.}}{{.a b}", ":1: bad character U+007D '}'"),
    ('{{"a"."b"}}', ":1: bad character U+0022 '\"'"),
    ("{{1.a}}", ':1: bad number syntax: "1.a"'),
    ("{{nil.a}}", ':1: unexpected . after term "nil"'),
    ("{{(nil).a}}", ':1:3: executing "" at <nil>: nil is not a command'),
    ("{{.Config . }}", ':1:2: executing "" at <.Config>: Config is not a method but has arguments'),
    ("{{continue}}", ":1: {{continue}} outside {{range}}"),
    ('{{template "a" 1 2}}', ':1:11: executing "" at <{{template "a" 1 2}}>: template "a" not defined'),
    ('{{template "a" .}}', ':1:11: executing "" at <{{template "a" .}}>: template "a" not defined'),
    ('{{block "x"}}{{end}}', ":1: missing value for block clause"),
    ('{{define "x" .}}{{end}}', ":1: unexpected <.> in define clause"),
    ("{{if 1 2}}{{end}}", ':1:5: executing "" at <1>: can\'t give argument to non-function 1'),
    ("{{with nil}}{{end}}", ':1:7: executing "" at <nil>: nil is not a command'),
    ("{{$y = 1}}", ':1:7: executing "" at <1>: undefined variable: $y'),
    ('{{"\\q"}}', ":1: invalid syntax"),
    ("{{'ab'}}", ":1: malformed character constant: 'ab'"),
    ("{{1a}}", ':1: bad number syntax: "1a"'),
    ("{{08}}", ':1: integer overflow: "08"'),
    ("{{9999999999999999999999}}", ':1: integer overflow: "9999999999999999999999"'),
    ("{{1e400}}", ':1: illegal number syntax: "1e400"'),
    ("{{0x}}", ':1: illegal number syntax: "0x"'),
    ("{{1_}}", ':1: illegal number syntax: "1_"'),
    ("{{:}}", ":1: expected :="),
    ("{{=}}", ':1: unexpected "=" in command'),
    ("{{a:b}}", ':1: function "a" not defined'),
    ("{{.a=b}}", ":1: bad character U+003D '='"),
    ('{{"a" "b"}}', ':1:2: executing "" at <"a">: can\'t give argument to non-function "a"'),
    (
        '{{slice "hello" 3 1}}',
        ':1:2: executing "" at <slice "hello" 3 1>: error calling slice: invalid slice index: 3 > 1',
    ),
    (
        '{{slice "hello" 1 2 3}}',
        ':1:2: executing "" at <slice "hello" 1 2 3>: error calling slice: cannot 3-index slice a string',
    ),
    (
        "{{index .RepoTags -1}}",
        ':1:2: executing "" at <index .RepoTags -1>: error calling index: index out of range: -1',
    ),
    (
        '{{index .RepoTags 0 "a"}}',
        ':1:2: executing "" at <index .RepoTags 0 "a">: error calling index: cannot index slice/array with type string',
    ),
    ("{{index}}", ':1:2: executing "" at <index>: wrong number of args for index: want at least 1 got 0'),
    ("{{index nil 1}}", ':1:2: executing "" at <index nil 1>: error calling index: index of untyped nil'),
    ("{{.Descriptor.Digest}}", ':1:13: executing "" at <.Descriptor.Digest>: map has no entry for key "Descriptor"'),
    ("{{lower 3}}", ':1:8: executing "" at <3>: expected string; found 3'),
    ("{{upper nil}}", ':1:8: executing "" at <nil>: cannot assign nil to string'),
    ("{{upper .Config.Labels.x}}", ':1:15: executing "" at <.Config.Labels.x>: nil pointer evaluating interface {}.x'),
    ("{{table}}", ':1: function "table" not defined'),
    ("{{.Metadata.Foo}}", ':1:11: executing "" at <.Metadata.Foo>: map has no entry for key "Foo"'),
    (
        '{{ index .Config.Labels "a.b" "c"}}',
        ':1:3: executing "" at <index .Config.Labels "a.b" "c">: error calling index: index of untyped nil',
    ),
    ("{{printf 3}}", ':1:9: executing "" at <3>: expected string; found 3'),
    (
        "{{ eq .Size 1984230 }} {{ gt .Size 1000 }} {{lt .Size 3.5}}",
        ':1:3: executing "" at <eq .Size 1984230>: error calling eq: incompatible types for comparison',
    ),
]


def inspected(text: str) -> str:
    """As `image inspect` does: the typed view first, then the object with its JSON keys."""
    template = Template(text)
    try:
        return template.execute(typed(IMAGE, "*image.InspectResponse"))
    except TemplateError:
        return template.execute(numbers_as_written(IMAGE), strict=True)


@pytest.mark.parametrize(("template", "answer"), ANSWERS)
def test_answer(template: str, answer: str) -> None:
    assert inspected(template) == answer


@pytest.mark.parametrize(("template", "problem"), PROBLEMS)
def test_problem(template: str, problem: str) -> None:
    with pytest.raises(TemplateError) as caught:
        inspected(template)
    assert caught.value.message == f"template parsing error: template: {problem}"


def test_absent_fields_have_zero_values() -> None:
    container = typed({"State": {"Status": "running"}, "Config": {}}, "*container.InspectResponse")
    text = "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.Config.Env}} {{.HostConfig}} {{.RestartCount}}"
    assert Template(text).execute(container) == "none [] <nil> 0"
    with pytest.raises(TemplateError, match=r"nil pointer evaluating \*container.Health.Status"):
        Template("{{.State.Health.Status}}").execute(container)


def test_durations_and_times() -> None:
    health = typed({"Test": ["CMD", "true"], "Interval": 90_500_000_000}, "v1.HealthcheckConfig")
    assert Template("{{.Interval}} {{.Timeout}} {{.Interval.Seconds}}").execute(health) == "1m30.5s 0s 90.5"
    network = typed({"Created": "2026-01-02T03:04:05.5+01:00"}, "network.Inspect")
    assert Template("{{.Created}}").execute(network) == "2026-01-02 03:04:05.5 +0100 +0100"
    form = '{{.Created.Format "Mon Jan _2 15:04:05.000 2006 -07:00"}}'
    assert Template(form).execute(network) == "Fri Jan  2 03:04:05.500 2026 +01:00"


def test_name_stands_in_messages() -> None:
    with pytest.raises(TemplateError, match=r'template: version:1:2: executing "version" at <.Nope>'):
        Template("{{.Nope}}", "version").execute(typed({}, "system.versionInfo"))
    with pytest.raises(TemplateError, match="template: version:1: unclosed action"):
        Template("{{.Nope", "version")


def test_rows_call_what_is_asked_for_alone() -> None:
    asked = []
    row = Record({"ID": "abc", "Size": lambda: asked.append("Size") or "1kB"}, "*formatter.imageContext")
    assert Template("{{.ID}}").execute(row) == "abc"
    assert asked == []
    assert Template("{{.Size}}{{json .}}").execute(row) == '1kB{"ID":"abc","Size":"1kB"}'
    with pytest.raises(TemplateError, match=r"can't evaluate field Foo in type \*formatter.imageContext"):
        Template("{{.Foo}}").execute(row)


def test_json_of_rows_escapes_html() -> None:
    row = Record({"Tag": "<none>"}, "*formatter.imageContext")
    assert Template("{{json .}} {{json .Tag}}").execute(row) == '{"Tag":"\\u003cnone\\u003e"} "<none>"'


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(TemplateError):
        Template("{{" + "(" * 3000 + "1" + ")" * 3000 + "}}")
    with pytest.raises(TemplateError):
        Template('{{define "a"}}{{template "a"}}{{end}}{{template "a"}}').execute({})
    with pytest.raises(TemplateError):
        Template("{{if true}}" * 3000 + "{{end}}" * 3000).execute({})


pieces = st.sampled_from(
    [
        "{{", "}}", "{{-", "-}}", "(", ")", " ", "|", ".", "$", "$x", ":=", "=", ",", ".Id", ".Config.Labels", "if",
        "range", "with", "end", "else", "define", "template", "block", "break", "index", "len", "printf", "json",
        "eq", "and", "slice", '"a"', '"%d %v"', "`b`", "'c'", "1", "-2", "3.5", "true", "nil", "text", "\n", "/*",
        "*/", "é", "\x00", "split", "join", "pad", "truncate", "call",
    ]
)  # fmt: skip
data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400)
@given(st.lists(pieces, max_size=14).map(" ".join) | st.lists(pieces, max_size=14).map("".join) | st.text(), data)
def test_only_its_own_error(text: str, value: Any) -> None:
    try:
        template = Template(text)
    except TemplateError:
        return
    for given_value in (value, typed(IMAGE, "*image.InspectResponse"), INVALID):
        try:
            assert isinstance(template.execute(given_value), str)
        except TemplateError:
            continue
