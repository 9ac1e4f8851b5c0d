import { expect, test } from 'vitest'
import { parseAgentPathTemplate } from './agent-path-template.ts'

const FIELDS = ['PluginName', 'Subject.CommonName']
const VALUES = new Map([
  ['PluginName', 'x509pop'],
  ['Subject.CommonName', 'a'],
])

test.each([
  ['/static', '/static'],
  ['/{{ .PluginName }}', '/x509pop'],
  ['/{{.PluginName}}/{{- .Subject.CommonName -}}/end', '/x509pop/a/end'],
  ['', ''],
])('the template %j makes %j', (template, path) => {
  expect(parseAgentPathTemplate(template, FIELDS)(VALUES)).toBe(path)
})

test.each([
  ['{{ .PluginName', 'failed to parse agent svid template: "{{ .PluginName": unclosed action'],
  ['/a/{{', 'failed to parse agent svid template: "/a/{{": unclosed action'],
  [
    '{{ .Other }}',
    'failed to parse agent svid template: "{{ .Other }}": {{ .Other }} is not supported; known fields are .PluginName, .Subject.CommonName',
  ],
  ['{{ upper .PluginName }}', 'is not supported'],
  ['{{ .PluginName | upper }}', 'is not supported'],
  ['{{ PluginName }}', 'is not supported'],
  ['{{}}', 'is not supported'],
])('the template %j is refused', (template, message) => {
  expect(() => parseAgentPathTemplate(template, FIELDS)).toThrow(message)
})

test('a value that is not there makes no path: another agent might have it', () => {
  const path = parseAgentPathTemplate('/x/{{ .Subject.CommonName }}', FIELDS)
  expect(() => path(new Map([['PluginName', 'x509pop']]))).toThrow('no value for .Subject.CommonName')
})
