import { WorkloadPIDReference } from '../../../proto/spiffe/broker.ts'
import {
  AttestReferenceRequest,
  AttestReferenceResponse,
  AttestRequest,
  AttestResponse,
} from '../../../proto/spire/plugin/agent/workloadattestor/v1.ts'
import { StatusError } from '../../core/error.ts'
import type { WorkloadAttestor } from '../../core/plugin.ts'
import type { PluginCalls } from './calls.ts'
import { checkedSelectorValues } from './selectors.ts'

const SERVICE = '/spire.plugin.agent.workloadattestor.v1.WorkloadAttestor'
const ATTEST = { path: `${SERVICE}/Attest`, request: AttestRequest, response: AttestResponse }
const ATTEST_REFERENCE = {
  path: `${SERVICE}/AttestReference`,
  request: AttestReferenceRequest,
  response: AttestReferenceResponse,
}
const PID_REFERENCE = 'type.googleapis.com/spiffe.broker.WorkloadPIDReference'

/** A plugin that knows processes by their numbers; one that knows references only is told the number in one. */
export function externalWorkloadAttestor(name: string, calls: PluginCalls): WorkloadAttestor {
  return {
    name,
    async attest({ pid }, signal) {
      let values: readonly string[]
      try {
        values = (await calls.unary(ATTEST, { pid }, { signal })).selectorValues
      } catch (error) {
        if (!(error instanceof StatusError) || error.code !== 'UNIMPLEMENTED') throw error
        const reference = { typeUrl: PID_REFERENCE, value: WorkloadPIDReference.encode({ pid }).finish() }
        values = (await calls.unary(ATTEST_REFERENCE, { reference }, { signal })).selectorValues
      }
      return checkedSelectorValues(values, calls)
    },
  }
}
