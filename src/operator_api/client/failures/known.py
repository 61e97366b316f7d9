"""The names that the API knows, as the failed-request log redacts by them."""

from operator_api.contract.clear import CLEAR, CLIENT_HEADERS, MASKED, PROSE
from operator_api.vault.documents import Known

KNOWN = Known(clear=CLEAR, prose=PROSE, masked=MASKED, headers=CLIENT_HEADERS)
