"""Calls the API: build a request, judge the answer, retry as the policy says."""

from operator_api.client._async import AsyncOperatorAI as AsyncOperatorAI
from operator_api.client._sync import OperatorAI as OperatorAI
from operator_api.client.call import OMIT as OMIT
from operator_api.client.configuration import ConfigurationError as ConfigurationError
from operator_api.client.errors import APIConnectionError as APIConnectionError
from operator_api.client.errors import APIError as APIError
from operator_api.client.errors import APIResponseValidationError as APIResponseValidationError
from operator_api.client.errors import APIStatusError as APIStatusError
from operator_api.client.errors import APITimeoutError as APITimeoutError
from operator_api.client.errors import AuthenticationError as AuthenticationError
from operator_api.client.errors import BadRequestError as BadRequestError
from operator_api.client.errors import ConflictError as ConflictError
from operator_api.client.errors import InternalServerError as InternalServerError
from operator_api.client.errors import NotFoundError as NotFoundError
from operator_api.client.errors import OperatorError as OperatorError
from operator_api.client.errors import OutboxError as OutboxError
from operator_api.client.errors import PermissionDeniedError as PermissionDeniedError
from operator_api.client.errors import RateLimitError as RateLimitError
from operator_api.client.errors import RequestValidationError as RequestValidationError
from operator_api.client.errors import UnprocessableEntityError as UnprocessableEntityError
