/** Fills the template of an agent's path; throws where a value is missing. */
export type AgentPath = (values: ReadonlyMap<string, string>) => string

/**
 * Reads an `agent_path_template`: text with `{{ .Field }}` in it, nothing else of Go's templates.
 *
 * @param fields the fields that a node attestor offers, without the leading dot
 * @throws Error naming what is not supported
 */
export function parseAgentPathTemplate(template: string, fields: readonly string[]): AgentPath {
  const parts: ({ readonly text: string } | { readonly field: string })[] = []
  let rest = template
  for (let open = rest.indexOf('{{'); open >= 0; open = rest.indexOf('{{')) {
    const close = rest.indexOf('}}', open)
    if (close < 0) throw new Error(`failed to parse agent svid template: "${template}": unclosed action`)
    const action = rest.slice(open + 2, close)
    const name = /^-?\s*\.([A-Za-z][A-Za-z0-9_.]*)\s*-?$/.exec(action)?.[1]
    if (name === undefined || !fields.includes(name)) {
      throw new Error(
        `failed to parse agent svid template: "${template}": {{${action}}} is not supported; known fields are ${fields
          .map((field) => `.${field}`)
          .join(', ')}`,
      )
    }
    parts.push({ text: rest.slice(0, open) }, { field: name })
    rest = rest.slice(close + 2)
  }
  parts.push({ text: rest })
  return (values) =>
    parts
      .map((part) => {
        if ('text' in part) return part.text
        const value = values.get(part.field)
        if (value === undefined) throw new Error(`no value for .${part.field}`)
        return value
      })
      .join('')
}
