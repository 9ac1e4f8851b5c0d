import type { FederationRelationship, Status } from '../../../proto/spire/api/types.ts'
import type { ApiCall } from '../api-command.ts'
import { CommandError, codeName } from '../failure.ts'

/** A federation relationship for reading. */
export function relationshipBlock(relationship: FederationRelationship): string {
  const { trustDomain, bundleEndpointUrl, httpsWeb, httpsSpiffe } = relationship
  let out = `Trust domain              : ${trustDomain}\nBundle endpoint URL       : ${bundleEndpointUrl}\n`
  if (httpsWeb !== undefined) out += 'Bundle endpoint profile   : https_web\n'
  if (httpsSpiffe !== undefined) {
    out += `Bundle endpoint profile   : https_spiffe\nEndpoint SPIFFE ID        : ${httpsSpiffe.endpointSpiffeId}\n`
  }
  return out
}

interface Result {
  readonly status: Status | undefined
  readonly federationRelationship: FederationRelationship | undefined
}

/**
 * Prints what became of relationships; those refused are shown as they were asked for.
 * @throws CommandError if one was refused and the output is for reading
 */
export function printResults(
  call: ApiCall,
  verb: 'create' | 'update',
  given: readonly Result[],
  wanted: readonly FederationRelationship[],
): void {
  if (call.json) {
    call.print({ results: given }, () => undefined)
    return
  }
  const results = given.map((result, i) => ({ ...result, asked: wanted[i]! }))
  const failed = results.filter(({ status }) => status?.code)
  for (const { status, federationRelationship } of results) {
    if (!status?.code) call.stdout(`\n${relationshipBlock(federationRelationship!)}`)
  }
  for (const { status, asked } of failed) {
    call.stdout('\n')
    const reason = `(code: ${codeName(status!.code)}, msg: ${JSON.stringify(status!.message)})`
    call.stderr(`Failed to ${verb} the following federation relationship ${reason}:\n${relationshipBlock(asked)}`)
  }
  if (failed.length > 0) throw new CommandError(`failed to ${verb} one or more federation relationships`)
}
